"""Sites of every architecture: what the model itself reports, and what comes of writing there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

import tiny
from patchclamp.engine.batches import pad
from patchclamp.engine.sites import put, take, visits
from patchclamp.engine.steps import in_order, read_step, whole_step
from patchclamp.registry import SITES

IDS = (3, 4, 5, 6, 7, 8, 9, 10, 11)
OTHER = (30, 31, 32)
LAYERED = [site for site in SITES if "layer" in SITES[site].dims]
WRITTEN = [site for site in SITES if site != "logprobs"]
AFTER = {"attn_scores": "attn_pattern", "attn_pattern": "z", "q": "attn_scores", "k": "attn_scores"}
"""What shows that a write reached attention, and not only the read behind it."""


NONE = torch.zeros(0)
"""Lengths that `run` replaces."""


@pytest.fixture(params=list(tiny.TWINS))
def source(request: pytest.FixtureRequest, twin: Callable[[str], Any]) -> Any:
    return twin(request.param)


def run(
    source: Any, steps: Iterable[dict[str, Any]], backend: str = "hooks", ids: Any = (IDS,)
) -> dict[str, torch.Tensor]:
    """Return what is read, padding as the model has it, and scores that are not there as -inf."""
    steps = [{**step, "lengths": torch.tensor([max(map(len, ids))] * len(ids))} for step in steps]
    inputs = pad(ids, pad_id=0)
    found = source.backends[backend].forward(inputs, in_order(steps), stop=False)
    whole = {key.removesuffix("/activation"): of for key, of in found.items() if "/bad" not in key}
    for key, tensor in whole.items():
        if key.startswith("attn_scores"):
            tensor.masked_fill_(tensor.isnan(), -torch.inf)
    return whole


def reads(source: Any, sites: Iterable[str], layers: Iterable[int] = range(3)) -> list[Any]:
    there = [site for site in sites if site in source.architecture.sites]
    return [read_step(source, (site, n), f"{site}.{n}", NONE) for site in there for n in layers]


def write(source: Any, site: str, layer: int, value: torch.Tensor) -> dict[str, Any]:
    """Write a whole site of one row, dims as in the site table."""
    return whole_step(source, (site, layer), value)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    finite = b[b.isfinite()]
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(float(finite.abs().max()), 1.0))


def test_sites_equal_what_the_model_itself_reports(source: Any) -> None:
    """Hidden states, attention and logits as transformers gives them, with eager attention."""
    found = run(source, reads(source, SITES), ids=(IDS, OTHER))
    before = source.module.config._attn_implementation
    source.module.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            told = source.module(
                **pad((IDS, OTHER), pad_id=0),
                use_cache=False,
                output_hidden_states=True,
                output_attentions=True,
            )
    finally:
        source.module.set_attn_implementation(before)
    for row, length in enumerate(map(len, (IDS, OTHER))):
        for layer in range(3):
            own = told.attentions[layer][row, :, :length, :length]
            close(found[f"attn_pattern.{layer}"][row, :, :length, :length], own)
            # The last hidden state has the final norm behind it.
            stream = told.hidden_states[layer][row, :length]
            close(found[f"resid_pre.{layer}"][row, :length], stream)
        close(found["logits.0"][row, :length], told.logits[row, :length])


@pytest.mark.parametrize("backend", ["nnsight", "hooks"])
def test_writing_what_is_there_changes_nothing(source: Any, backend: str) -> None:
    clean = run(source, reads(source, WRITTEN))
    for site in source.architecture.sites:
        if site in WRITTEN:
            steps = [write(source, site, 1, clean[f"{site}.1"][0]), *reads(source, ["logits"], [0])]
            close(run(source, steps, backend)["logits.0"], clean["logits.0"])


@pytest.mark.parametrize("backend", ["nnsight", "hooks"])
def test_what_is_written_is_read_and_reaches_the_logits(source: Any, backend: str) -> None:
    clean = run(source, reads(source, SITES))
    for site in source.architecture.sites:
        if site not in WRITTEN:
            continue
        value = clean[f"{site}.1"][0].roll(1, 0) + 0.1  # other heads' or positions' values
        if site == "attn_pattern":  # nothing is let in that a query does not see
            value = torch.where(clean[f"{site}.1"][0] > 0, value.clamp(max=1.0), 0.0)
        after = AFTER.get(site, site)
        steps = [write(source, site, 1, value), *reads(source, [site, after], [1])]
        found = run(source, [*steps, *reads(source, ["logits"], [0])], backend)
        unseen = clean[f"{site}.1"][0].isneginf()
        close(found[f"{site}.1"][0], value.masked_fill(unseen, -torch.inf))
        assert not torch.allclose(found[f"{after}.1"], clean[f"{after}.1"], atol=1e-3)
        assert not torch.allclose(found["logits.0"], clean["logits.0"], atol=1e-3), site


def test_a_written_pattern_equals_a_masked_token(source: Any) -> None:
    """Nobody attends to the first token: by scores, by pattern, or by the model's own mask."""
    inputs = pad((IDS,), pad_id=0)
    inputs["attention_mask"][:, 0] = 0
    with torch.no_grad():
        expected = source.module(**inputs, use_cache=False).logits[0, 1:]
    knocked: list[dict[str, Any]] = []
    for layer in range(3):  # a layer's scores depend on what was written below it
        found = run(source, [*knocked, *reads(source, ["attn_scores"], [layer])])
        value = found[f"attn_scores.{layer}"][0]
        value[:, 1:, 0] = -torch.inf
        knocked.append(write(source, "attn_scores", layer, value))
    steps = reads(source, ["attn_pattern", "logits"])
    found = run(source, [*knocked, *steps])
    assert float(found["attn_pattern.2"][0, :, 1:, 0].abs().max()) == 0
    close(found["logits.0"][0, 1:], expected)
    patterns = [
        write(source, "attn_pattern", layer, found[f"attn_pattern.{layer}"][0])
        for layer in range(3)
    ]
    close(run(source, [*patterns, *steps])["logits.0"][0, 1:], expected)


def test_queries_of_zero_attend_to_all_that_they_see_alike(source: Any) -> None:
    if source.architecture.name == "phi_normed":
        pytest.skip("the norm behind these queries adds a bias")
    clean = run(source, reads(source, ["q", "attn_pattern"], [1]))
    zero = torch.zeros_like(clean["q.1"][0])
    steps = [write(source, "q", 1, zero), *reads(source, ["attn_pattern"], [1])]
    pattern = run(source, steps)["attn_pattern.1"][0]
    seen = clean["attn_pattern.1"][0] > 0
    close(pattern, seen / seen.sum(-1, keepdim=True))


def test_padding_that_sees_no_key_spoils_no_number(source: Any) -> None:
    """Beyond a sliding window, a padding query sees nothing: its z stays as the model has it."""
    ids = (IDS, OTHER)
    clean = run(source, reads(source, SITES), ids=ids)
    assert not any(value.isnan().any() for value in clean.values())
    written = write(source, "attn_pattern", 1, clean["attn_pattern.1"][0])
    steps = [written, *reads(source, ["logits"], [0])]
    found = run(source, steps, ids=ids)
    assert not found["logits.0"].isnan().any()
    close(found["logits.0"][0], clean["logits.0"][0])


def test_what_no_further_step_needs_is_let_go_of(source: Any) -> None:
    """Else maps of all layers hold queries, keys and values of all of them until the end."""
    seen = visits(in_order(reads(source, ["attn_pattern", "attn_scores"])))
    held: set[tuple[str, str]] = set()
    most = 0
    for visit in seen:
        for step in visit["steps"]:
            needed = {(part["path"], part["io"]) for part in step["place"]["parts"][:-1]}
            assert needed <= held
        if visit.get("keep"):
            held.add((visit["path"], visit["io"]))
        most = max(most, len(held))
        held -= {*visit.get("drop", ())}
    assert not held
    assert most <= 4  # of one layer: what its attention is given, and its queries, keys and values


def part(split: str, **more: Any) -> dict[str, Any]:
    return {"form": "one", "parts": [{"split": split, "share": 1, "heads": 2, "member": 0, **more}]}


@pytest.mark.parametrize(
    ("split", "first"),
    [
        ("heads", [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]),
        ("thirds", [[4, 5], [6, 7]]),
        ("triples", [[2, 3], [8, 9]]),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_heads_are_where_a_projection_has_them(
    split: str, first: list[list[int]], wrapped: bool
) -> None:
    """Two heads of queries, keys and values in twelve channels; keys are asked for."""
    tensor = torch.arange(24.0).view(1, 2, 12)
    value = (tensor, "weights") if wrapped else tensor
    where = part(split)
    keys = take(where, [value])
    assert keys[0, :, 0].tolist() == first
    assert keys.data_ptr() >= tensor.data_ptr()
    assert keys.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    new = put(where, [value], -keys)
    changed = new[0] if wrapped else new
    assert torch.equal(take(where, [new]), -keys)
    untouched = sorted(set(range(12)) - {n for head in first for n in head})
    assert torch.equal(changed[0, 0, untouched], tensor[0, 0, untouched])
    assert torch.equal(tensor, torch.arange(24.0).view(1, 2, 12))
    assert not wrapped or new[1] == "weights"


def test_what_is_computed_from_logits_is_not_written(twin: Callable[[str], Any]) -> None:
    source = twin("gpt2")
    clean = run(source, reads(source, ["logprobs"], [0]))
    with pytest.raises(ValueError, match="'logprobs' is computed from logits and is not written"):
        run(source, [write(source, "logprobs", 0, clean["logprobs.0"][0])])
