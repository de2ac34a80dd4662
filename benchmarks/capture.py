"""CPU time of capturing every residual stream, side by side with what else one could use.

For each model and each kind of stimuli one process runs all contenders in turn, some rounds of
each; a time is the median of its rounds, and a ratio the median, lowest and highest of what each
round's is to that of a full forward of the same batches with nothing read, in the same round.
Process time (user and system) on one thread, so that other work on the machine matters little;
waiting for a disk is no CPU time and shows in none of the figures.

    python benchmarks/capture.py [--rounds 5] [--only gpt2-small] [--lengths equal]
                                 [--stimuli 256] [--transformer-lens PYTHON]

`--transformer-lens` names the interpreter of an environment that has transformer-lens 4, which
cannot live in ours; without it that row says so. GPT-2-small and Pythia-70m have their published
shapes and random weights: what a weight holds changes no time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import nnsight
import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    PreTrainedTokenizerFast,
)

from patchclamp.engine.batches import pad
from patchclamp.engine.heap import kept_heap
from patchclamp.engine.measure import Measured, measure_clean
from patchclamp.engine.plan import make_plan
from patchclamp.engine.records import open_cache
from patchclamp.engine.rig import rig_of
from patchclamp.specs.load import load

SHAPES: dict[str, Any] = {
    "gpt2-small": GPT2Config(),
    "pythia-70m": GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=2048,
        max_position_embeddings=2048,
        rotary_pct=0.25,
    ),
}
BUNDLED = "bundled"
LENGTHS = ("equal", "mixed")
TOKENS = 2048
"""Tokens of a batch; on one CPU thread larger ones are not faster."""
FIXED = 32
"""Stimuli of a batch in file order."""
COUNTS = {"gpt2-small": 256, "pythia-70m": 512, BUNDLED: 4096}
"""Stimuli: so many that what is done once a capture, such as running some alone, is 1 to 2 %."""

SPEC = """\
patchclamp: 1
name: benchmark
model: {{id: "{model}", dtype: float32}}
stimuli:
  words:
    kind: csv
    path: words.csv
    text: "{{text}}"
    labels: []
    groups: none
    answer: {{correct: "{right}", foil: "{wrong}"}}
captures:
  resid: {{of: words, site: resid_post, layers: all, positions: all}}
run: {{backend: nnsight, device: cpu, threads: 1, batch: {{tokens: {tokens}}}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=[*SHAPES, BUNDLED])
    parser.add_argument("--lengths", choices=LENGTHS)
    parser.add_argument("--stimuli", type=int, help="as many as this table says unless given")
    parser.add_argument("--transformer-lens", metavar="PYTHON")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    if given.child:
        COUNTS[given.child[0]] = given.stimuli or COUNTS[given.child[0]]
        compare(given.child[0], given.child[1], given.rounds, given.transformer_lens)
        return
    load_now = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, nnsight "
        f"{nnsight.__version__}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {load_now}; CPU seconds on one thread, median of {given.rounds} rounds"
    )
    for model in [given.only] if given.only else [*SHAPES, BUNDLED]:
        for lengths in [given.lengths] if given.lengths else LENGTHS:
            command = [sys.executable, __file__, "--rounds", str(given.rounds)]
            command += ["--child", model, lengths]
            if given.stimuli:
                command += ["--stimuli", str(given.stimuli)]
            if given.transformer_lens:
                command += ["--transformer-lens", given.transformer_lens]
            subprocess.run(command, check=True)


def compare(name: str, lengths: str, rounds: int, lens: str | None) -> None:
    """Run every contender on one model and one kind of stimuli, and print what they take."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(name, lengths, Path(folder))
        contenders: dict[str, Callable[[], float]] = {
            "forward, nothing read": bench.forward,
            "forward, its freed memory kept": bench.forward_with_heap,
            "blocks alone, nothing read": bench.blocks,
            "forward, hooks kept in memory": bench.hooks,
            "nnsight, as its guide shows": bench.nnsight,
            "patchclamp, to disk": lambda: bench.patchclamp(answers=False),
            "patchclamp, to disk, with logits": lambda: bench.patchclamp(answers=True),
            "hooks, fixed batches in file order": bench.fixed,
        }
        times: dict[str, list[float]] = {label: [] for label in contenders}
        with bench.first_batch():  # what is done once is not what is compared
            for contender in contenders.values():
                contender()
        bench.parts.clear()
        for _ in range(rounds):
            for label, contender in contenders.items():
                times[label].append(contender())
        print(f"\n{bench}")
        forward = times["forward, nothing read"]
        base = statistics.median(forward)
        for label, found in times.items():
            print(f"  {label:<38}{statistics.median(found):8.3f} s {ratio(found, forward)}")
            if label == "patchclamp, to disk":
                for part, taken in bench.parts.items():
                    shown = statistics.median(taken)
                    print(f"    {part:<36}{shown:8.3f} s  {shown / base:5.3f}")
        print_lens(bench, lens, rounds)
        print_aims(times, name, lengths)


def ratio(found: list[float], base: list[float]) -> str:
    each = [one / other for one, other in zip(found, base, strict=True)]
    return f" {statistics.median(each):5.3f}  ({min(each):.3f} to {max(each):.3f})"


def print_lens(bench: Bench, python: str | None, rounds: int) -> None:
    label = "TransformerLens, run_with_cache"
    if python is None:
        print(f"  {label:<38} not run: no --transformer-lens given")
        return
    script = Path(__file__).with_name("capture_transformer_lens.py")
    data = bench.folder / "batches.json"
    data.write_text(json.dumps([given["input_ids"].tolist() for given in bench.batches]))
    lengths = bench.folder / "lengths.json"
    lengths.write_text(
        json.dumps([given["attention_mask"].sum(1).tolist() for given in bench.batches])
    )
    run = subprocess.run(
        [python, str(script), str(bench.model_folder), str(data), str(lengths), str(rounds)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        print(f"  {label:<38} not run: {run.stderr.strip().splitlines()[-1][:120]}")
        return
    found = json.loads(run.stdout.splitlines()[-1])
    print(
        f"  {label:<38}{found['cached']:8.3f} s  {found['cached'] / found['forward']:5.3f}  of a "
        f"forward in its own process, {found['forward']:.3f} s (TransformerLens {found['version']})"
    )


def print_aims(times: dict[str, list[float]], name: str, lengths: str) -> None:
    def share(one: str, other: str) -> float:
        """Return the median over rounds of what one takes of the other in the same round."""
        return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))

    ours = "patchclamp, to disk"
    everything = share("patchclamp, to disk, with logits", "forward, hooks kept in memory")
    aims = [("everything read: to disk against hooks in memory", everything, 1.05)]
    if name == "gpt2-small":
        for label in ("forward, nothing read", "forward, its freed memory kept"):
            aims.append((f"streams to disk against {label}", share(ours, label), 0.8))
    for words, found, bound in aims:
        print(f"  {words}: {found:.3f}, {'within' if found <= bound else 'OVER'} {bound}")
    if lengths == "mixed":
        faster = share("hooks, fixed batches in file order", ours)
        met = "at least" if faster >= 1.5 else "UNDER"
        print(f"  faster than fixed batches in file order: {faster:.2f} times, {met} 1.5")


class Bench:
    """One model and one kind of stimuli, with every way of capturing."""

    def __init__(self, name: str, lengths: str, folder: Path) -> None:
        self.name, self.lengths, self.folder = name, lengths, folder
        self.model_folder, words = make_model(name, folder)
        write_stimuli(folder / "words.csv", words, lengths, COUNTS[name])
        spec = folder / "spec.yaml"
        answers = {"right": words[0], "wrong": words[1]}
        spec.write_text(SPEC.format(model=self.model_folder, tokens=TOKENS, **answers))
        self.cache = open_cache(folder / "cache")
        self.plan = make_plan(load(spec), self.cache)
        self.set = self.plan.sets["words"]
        ids, count = self.set.tokens.ids, len(self.set.table)
        self.batches = [
            pad([ids[row] for row in batch.rows], 0)
            for batch in self.set.batches(range(count), TOKENS)
        ]
        self.in_order = [pad(ids[at : at + FIXED], 0) for at in range(0, count, FIXED)]
        self.module = AutoModelForCausalLM.from_pretrained(self.model_folder).eval()
        self.module.requires_grad_(False)
        family = self.module.base_model
        self.layers = family.h if hasattr(family, "h") else family.layers
        self.traced = nnsight.TransformersModel(
            AutoModelForCausalLM.from_pretrained(self.model_folder).eval(),
            task="text-generation",
            tokenizer=self.plan.model.tokenizer,
        )
        self.parts: dict[str, list[float]] = {}
        self.rounds = 0

    def __str__(self) -> str:
        lengths = self.set.lengths
        shape = self.plan.model.shape
        return (
            f"{self.name}, {self.lengths} lengths: {len(lengths)} stimuli of {lengths.min()} to "
            f"{lengths.max()} tokens ({lengths.mean():.0f} on average), {len(self.batches)} "
            f"batches of {TOKENS} tokens; {shape.layers} residual streams of all tokens"
        )

    def forward(self) -> float:
        start = process_time()
        with torch.no_grad():
            for given in self.batches:
                self.module(**given, use_cache=False)
        return process_time() - start

    def forward_with_heap(self) -> float:
        """The same with what patchclamp does to the C library, to tell its share apart."""
        with kept_heap():
            return self.forward()

    def blocks(self) -> float:
        """What cannot be left out where every stream is read: all but the unembedding."""
        start = process_time()
        with torch.no_grad():
            for given in self.batches:
                self.module.base_model(**given, use_cache=False)
        return process_time() - start

    @contextmanager
    def first_batch(self) -> Iterator[None]:
        """Let there be one batch, for all but patchclamp, which has no half of a capture."""
        whole = self.batches, self.in_order
        self.batches, self.in_order = self.batches[:1], self.in_order[:1]
        yield
        self.batches, self.in_order = whole

    def hooks(self) -> float:
        return self._hooked(self.batches)

    def fixed(self) -> float:
        return self._hooked(self.in_order)

    def _hooked(self, batches: list[dict[str, torch.Tensor]]) -> float:
        start = process_time()
        kept: list[list[torch.Tensor]] = []

        def keep(_: object, __: object, output: Any) -> None:
            kept[-1].append(output[0] if isinstance(output, tuple) else output)

        handles = [layer.register_forward_hook(keep) for layer in self.layers]
        with torch.no_grad():
            for given in batches:
                kept.append([])
                self.module(**given, use_cache=False)
        for handle in handles:
            handle.remove()
        taken = process_time() - start
        assert all(len(batch) == len(self.layers) for batch in kept)
        return taken

    def nnsight(self) -> float:
        start = process_time()
        layers = self.traced.transformer.h if self.name == "gpt2-small" else None
        if layers is None:
            layers = self.traced.gpt_neox.layers
        with torch.no_grad():
            for given in self.batches:
                kept = []
                with self.traced.trace(**given, use_cache=False):
                    for layer in layers:
                        kept.append(layer.output.save())
        return process_time() - start

    def patchclamp(self, *, answers: bool) -> float:
        """Measure anew and write the file; only loading the model is left out, as everywhere."""
        self.rounds += 1
        cache = open_cache(self.folder / f"cache{self.rounds}")
        with rig_of(self.plan, cache, lambda *_: None) as rig:
            rig.open()
            clock = Clock(self.parts if not answers else {})
            with clock:
                start = process_time()
                measure_clean(rig, Measured(), ["words"] if answers else [])
                taken = process_time() - start
        subprocess.run(["rm", "-r", str(cache.root)], check=True)
        return taken


class Clock:
    """Notes what parts of measuring take, by wrapping the functions that do them."""

    PARTS = {"record_clean": "passes and shards", "check_captures": "guards", "assemble": "file"}

    def __init__(self, parts: dict[str, list[float]]) -> None:
        self.parts = parts

    def __enter__(self) -> None:
        self.module = sys.modules["patchclamp.engine.measure"]
        self.before = {name: getattr(self.module, name) for name in self.PARTS}
        for name, function in self.before.items():
            setattr(self.module, name, self._timed(function, self.PARTS[name]))

    def _timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            start = process_time()
            result = function(*given, **named)
            self.parts.setdefault(label, []).append(process_time() - start)
            return result

        return timed

    def __exit__(self, *_: object) -> None:
        for name, function in self.before.items():
            setattr(self.module, name, function)


def make_model(name: str, folder: Path) -> tuple[Path, list[str]]:
    """Write a model of that shape with a tokenizer of whole words; return some of its words."""
    if name == BUNDLED:
        from patchclamp.registry import MODELS

        model = MODELS["bundled:sequences"].path("main")
        return model, bundled_words()
    path = folder / name
    torch.manual_seed(0)
    config = SHAPES[name]
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    words = [f"w{number}" for number in range(config.vocab_size)]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="w0", eos_token=words[-1]
    ).save_pretrained(path)
    return path, [f" {word}" for word in words[:1000]]


def bundled_words() -> list[str]:
    """Words that are one token for the bundled model."""
    days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
    return [f" {word}" for word in days.split()]


def write_stimuli(path: Path, words: list[str], lengths: str, count: int) -> None:
    """Write texts of 32 words, or of 4 to 64 as sentences are long: mostly short, some long."""
    rng = np.random.default_rng(0)
    longest = 16 if len(words) < 100 else 64
    sizes = np.full(count, longest // 2)
    if lengths == "mixed":
        sizes = np.clip(rng.lognormal(np.log(longest / 4), 0.6, count), 4, longest).astype(int)
    texts = ["".join(rng.choice(words, size)).strip() for size in sizes]
    path.write_text("\n".join(["text", *texts]) + "\n")


if __name__ == "__main__":
    main()
