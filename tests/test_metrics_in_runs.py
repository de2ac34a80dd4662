"""Every metric under an ablation, against transformers with a hook, one stimulus at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.special import log_softmax
from scipy.stats import entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from patchclamp.engine import run
from patchclamp.registry import METRICS, MODELS

SPEC = """\
patchclamp: 1
name: metrics
model: bundled:sequences
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{{prompt}}"
    groups: template
    answer: {answer}
    take: {{n: 12}}
interventions:
  zero: {{kind: ablate, value: zero}}
analyses:
{analyses}
"""
BUNDLED = MODELS["bundled:sequences"].path("main")
LAYER, HEAD = 1, 1


def analysis(metric: str) -> str:
    units = f"{{site: z, layers: {LAYER}}}"
    return f"  {metric}: {{kind: ablation, with: zero, units: {units}, metric: {metric}}}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    folder = tmp_path_factory.mktemp("metrics")
    answer = '{correct: " {next}", foil: " {last}"}'
    text = SPEC.format(answer=answer, analyses="\n".join(map(analysis, METRICS)))
    (folder / "t.yaml").write_text(text)
    result = run(folder / "t.yaml", out=folder / "runs")
    return xr.open_datatree(result.path, engine="netcdf4").load()


@pytest.fixture(scope="module")
def logits(tree: xr.DataTree) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Log-probabilities (position, token) of each stimulus, clean and with one head zeroed."""
    module = AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32).eval()
    size = module.config.hidden_size // module.config.num_attention_heads

    def zero(_: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        z = args[0].clone()
        z[..., HEAD * size : (HEAD + 1) * size] = 0
        return (z,)

    def passes() -> list[np.ndarray]:
        ids = tree["stimuli/words/token_id"].to_numpy()
        with torch.no_grad():
            inputs = [torch.from_numpy(row[row >= 0]).long()[None] for row in ids]
            rows = [module(input_ids=row).logits[0] for row in inputs]
        return [log_softmax(row.double().numpy(), axis=1) for row in rows]

    clean = passes()
    handle = module.gpt_neox.layers[LAYER].attention.dense.register_forward_pre_hook(zero)
    changed = passes()
    handle.remove()
    return clean, changed


def ids_of(tree: xr.DataTree, part: str) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    texts = tree[f"stimuli/words/{part}"].to_numpy()
    return np.array([tokenizer(str(text)).input_ids[-1] for text in texts])


Definition = Callable[[np.ndarray, np.ndarray, int, int, np.ndarray], float]
"""Last log-probabilities, the clean run's, the answer, the foil, and the text's own losses."""

DEFINITIONS: dict[str, Definition] = {
    "logit_diff": lambda q, p, a, b, loss: q[a] - q[b],
    "logprob": lambda q, p, a, b, loss: q[a],
    "accuracy": lambda q, p, a, b, loss: q.argmax() == a,
    "forced_choice": lambda q, p, a, b, loss: q[a] > q[b],
    "probability": lambda q, p, a, b, loss: np.exp(q[a]),
    "answer_mass": lambda q, p, a, b, loss: np.exp(q[a]) + np.exp(q[b]),
    "rank": lambda q, p, a, b, loss: (q > q[a]).sum(),
    "cross_entropy": lambda q, p, a, b, loss: loss.mean(),
    "entropy": lambda q, p, a, b, loss: entropy(np.exp(q)),
    "kl": lambda q, p, a, b, loss: entropy(np.exp(p), np.exp(q)),
    "js": lambda q, p, a, b, loss: (
        entropy((np.exp(p) + np.exp(q)) / 2) - entropy(np.exp(p)) / 2 - entropy(np.exp(q)) / 2
    ),
}


@pytest.mark.parametrize("metric", list(METRICS))
def test_a_metric_is_what_its_definition_says_of_a_plain_forward(
    tree: xr.DataTree, logits: tuple[list[np.ndarray], list[np.ndarray]], metric: str
) -> None:
    found = tree[f"analyses/{metric}"].to_dataset()
    correct, foil = ids_of(tree, "correct"), ids_of(tree, "foil")
    ids = tree["stimuli/words/token_id"].to_numpy()
    clean, changed = logits
    for ours, source in (
        (found[f"{metric}_clean"], clean),
        (found[metric].sel(layer=LAYER, head=HEAD), changed),
    ):
        expected = []
        for row, logs in enumerate(source):
            text = ids[row][ids[row] >= 0]
            losses = -logs[np.arange(len(text) - 1), text[1:]]
            last = logs[-1], clean[row][-1]
            expected.append(DEFINITIONS[metric](*last, correct[row], foil[row], losses))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_a_divergence_is_not_divided_by_the_size_of_the_vocabulary(tree: xr.DataTree) -> None:
    """Ablating the head that continues sequences changes nearly every answer: more than a nat."""
    kl = tree["analyses/kl/kl"].sel(layer=LAYER, head=HEAD)
    assert float(kl.mean()) > 0.5
    assert float(tree["analyses/js/js"].max()) <= np.log(2)
