"""What a run survives, tried out: kills, full disks, two runs at once, and too little memory.

    python tests/survive.py kill [--times 30] [--seed 0]
    python tests/survive.py disk [--tmpfs]            tmpfs mounts one, for which it must be root
    python tests/survive.py together
    python tests/survive.py memory [--stimuli 50000]
    python tests/survive.py larger                    what a process has no memory for in one piece
    python tests/survive.py all [--times 3] [--stimuli 2000]

Runs of a tiny model in forked processes; each trial says what it saw, and the first thing that is
not as it should be ends it with an error. The test suite calls the same functions.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import kills
import numpy as np
import xarray as xr
from transformers import AutoTokenizer, GPT2Config

import tiny
from patchclamp.engine import recording, run
from patchclamp.engine.passes import Passes
from patchclamp.engine.results import open_result
from patchclamp.registry.errors import PatchclampError

SPEC = """\
patchclamp: 1
name: survive
model: {model}
stimuli:
  words:
    kind: csv
    path: words.csv
    text: "{{text}}"
    labels: [sort]
    groups: none
    answer: {{correct: " w40", foil: " w41"}}
captures:
  whole: {{site: resid_post, positions: all}}
  heads: {{site: z, positions: last}}
  mean: {{site: mlp_out, positions: all, reduce: {{kind: mean, over: stimulus}}}}
{analyses}
run: {{device: cpu, threads: 1, batch: {{tokens: {tokens}}}{budget}}}
"""
ABLATION = """\
interventions:
  zero: {kind: ablate, value: zero}
analyses:
  heads: {kind: ablation, with: zero, units: {site: z, layers: 1}, metric: {kind: logit_diff}}
"""


@dataclass
class Place:
    """A folder with a model and a spec, in which runs are tried out."""

    folder: Path
    name: str = "llama"

    def write(
        self, *, stimuli: int = 120, tokens: int = 64, analyses: str = ABLATION, budget: str = ""
    ) -> Place:
        """Write a model and a spec over so many stimuli of 3 to 14 tokens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "model").exists():
            tiny.make(self.name, self.folder / "model")
        rng = np.random.default_rng(0)
        with (self.folder / "words.csv").open("w") as file:
            file.write("id,text,sort\n")
            for number in range(stimuli):
                words = " ".join(f"w{i}" for i in rng.integers(0, 60, size=rng.integers(3, 15)))
                file.write(f"s{number},{words},{'xy'[number % 2]}\n")
        given = {"model": self.folder / "model", "tokens": tokens, "budget": budget}
        (self.folder / "t.yaml").write_text(SPEC.format(analyses=analyses, **given))
        return self

    def start(
        self, cache: str, *, out: str = "runs", before: Callable[[], None] = lambda: None
    ) -> int:
        """Start a run in a process of its own; `before` is done in it first. Returns its id."""
        child = os.fork()
        if child:
            return child
        code = 1
        with (self.folder / "said").open("w") as said:
            try:
                before()
                self._count(cache)
                run(self.folder / "t.yaml", out=self.folder / out, cache=self.folder / cache)
                code = 0
            except PatchclampError as error:
                said.write(str(error))
                code = 3
            except BaseException:
                traceback.print_exc(file=said)
        os._exit(code)

    def _count(self, cache: str) -> None:
        """Note every batch that is put through the model, from whatever process."""
        log = os.open(self.folder / f"{cache}.passes", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

        def count(once: Callable[..., Iterator[object]]) -> Callable[..., Iterator[object]]:
            def counted(passes: Passes, *given: object) -> Iterator[object]:
                os.write(log, b"1")
                yield from once(passes, *given)

            return counted

        for way in ("run", "run_pack"):
            setattr(Passes, way, count(getattr(Passes, way)))

    def finish(self, child: int) -> int:
        """Wait for a run; returns its exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def passes(self, cache: str) -> int:
        """Return how many batches runs with a cache have put through the model."""
        log = self.folder / f"{cache}.passes"
        return log.stat().st_size if log.exists() else 0

    @property
    def said(self) -> str:
        """The message that the last run ended with."""
        return (self.folder / "said").read_text()

    def result(self, out: str = "runs") -> dict[str, xr.Dataset]:
        """Return the groups of a result, read into memory."""
        with open_result(self.folder / out / "survive") as found:
            return {name: data.load() for name, data in found.groups.items()}


def expect(true: bool, message: str) -> None:
    if not true:
        raise SystemExit(f"NOT AS IT SHOULD BE: {message}")


def expect_same(a: dict[str, xr.Dataset], b: dict[str, xr.Dataset]) -> None:
    """Two results hold the same, bit by bit."""
    expect(set(a) == set(b), f"groups {set(a) ^ set(b)}")
    for name, data in a.items():
        expect(data.identical(b[name]), f"{name} differs")


def kill(folder: Path, times: int, seed: int) -> str:
    """Kill runs at random moments and run again, until one is through."""
    for name in ("llama", "gpt2"):
        tiny.make(name, folder / name)
    kills.write(folder)
    place = Place(folder)

    def start(name: str, file: Path) -> int:
        return place.start(name, out=name, before=lambda: kills.note(file))

    names, lost, due = kills.kill(start, folder, times=times, seed=seed)
    expected = place.result("never")
    for name in names:
        expect_same(place.result(name), expected)
        left = [file for file in (folder / name).rglob("*") if file.suffix == ".tmp"]
        expect(not left, f"left behind: {left}")
        shards = list((folder / name).rglob("*/shards/*"))
        expect(not shards, f"left behind: {shards}")
    total = sum(lost, Counter())
    said = ", ".join(f"{count} {sort}" for sort, count in sorted(total.items())) or "none"
    return (
        f"{len(lost)} kills in {len(names)} runs of {due} passes: every result equal bit by bit to "
        f"one that was not killed, and made of the same passes; made again were {said}, by each "
        "kill at most the one in flight and the clean pass that it had begun with"
    )


def place_said(place: Place) -> str:
    return f"a run failed: {place.said}"


def limited(size: int) -> Callable[[], None]:
    """Return what makes a process unable to write files larger than so many bytes."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def disk(folder: Path) -> str:
    """Run out of disk in the midst of shards, and of the finished file; then run again."""
    place = Place(folder).write()
    expect(place.finish(place.start("whole", out="whole")) == 0, place_said(place))
    seen = []
    for what, size in (("a shard", 20_000), ("the file", 120_000)):
        cache = f"cache{size}"
        code = place.finish(place.start(cache, out=cache, before=limited(size)))
        expect(code == 3, f"exit code {code}: {place.said}")
        words = "the disk is full" if what == "a shard" else "safe in its shards"
        expect(words in place.said, place.said)
        expect("run the same command again" in place.said, place.said)
        seen.append(place.said)
        expect(place.finish(place.start(cache, out=cache)) == 0, place_said(place))
        expect_same(place.result(cache), place.result("whole"))
        again = place.passes(cache) - place.passes("whole")
        expect(again <= 1, f"{again} batches were run again")
    return "\n".join(seen)


def tmpfs(folder: Path) -> str:
    """Run on a small file system that something else fills meanwhile, and again when it is not."""
    place = Place(folder).write(stimuli=200)
    expect(place.finish(place.start("whole", out="whole")) == 0, place_said(place))
    (folder / "small").mkdir()
    with mounted(folder / "small", "8m"):
        child = place.start("small", out="small")
        while place.passes("small") < 10:
            time.sleep(0.001)
        ballast = folder / "small" / "ballast"
        with ballast.open("wb", buffering=0) as stream, suppress(OSError):
            while True:
                stream.write(bytes(1 << 12))
        code = place.finish(child)
        expect(code == 3, f"exit code {code}: {place.said}")
        said = place.said
        ballast.unlink()
        expect(place.finish(place.start("small", out="out")) == 0, place_said(place))
        expect_same(place.result("out"), place.result("whole"))
        again = place.passes("small") - place.passes("whole")
        expect(again <= 1, f"{again} batches were run again")
    return f"{said}\nwith space again, the run went on and gave the same"


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """Mount an empty file system of memory."""
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "patchclamp", str(folder)]
    subprocess.run(options, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def together(folder: Path) -> str:
    """Run one spec twice at once, with one cache and one folder of results."""
    place = Place(folder).write()
    expect(place.finish(place.start("whole", out="whole")) == 0, place_said(place))
    children = [place.start("shared", out="shared") for _ in range(2)]
    codes = [place.finish(child) for child in children]
    expect(codes == [0, 0], f"exit codes {codes}: {place.said}")
    expect_same(place.result("shared"), place.result("whole"))
    due, ran = place.passes("whole"), place.passes("shared")
    expect(ran == due, f"{ran} batches instead of {due}")
    return f"two runs at once: both finished, and {ran} batches were run as by one alone"


BUFFERS = 40
"""MiB that writing takes at the most and a few stimuli do not fill: blocks of 4 and 8, some copies
of each, and what the libraries keep."""
LABELS = 768
"""Bytes that a stimulus may take as long as a run lasts: its text, tokens, labels, and places."""


def memory(folder: Path, stimuli: int) -> str:
    """Capture a hundredth and a tenth of the stimuli, and all of them, at one peak.

    What may grow is what a stimulus is called, not what is measured of it. So that this can fail,
    the last run is made once more by a process that holds what it measures.
    """
    place, seen, peaks, allowed = Place(folder).write(), [], [], 0.0
    for count in (stimuli // 100, stimuli // 10, stimuli):
        place.write(stimuli=count, tokens=512, analyses="")
        peaks.append(peak_of(place, f"{count}"))
        size = sum(f.stat().st_size for f in (folder / f"{count}").rglob("data.nc")) / 2**20
        allowed = peaks[0] + BUFFERS + count * LABELS / 2**20
        seen.append(f"{count} stimuli, {size:.0f} MiB of activations: {peaks[-1]:.0f} MiB")
        expect(peaks[-1] < allowed, f"{'; '.join(seen)}, more than {allowed:.0f} MiB")
    grown = (peaks[-1] - peaks[0]) * 2**20 / (stimuli - stimuli // 100)
    said = f"at the peak: {'; '.join(seen)} ({grown:.0f} bytes for each stimulus more)"
    if size < 2 * (allowed - peaks[-1]):
        return said
    held = peak_of(place, "held", before=hold)
    expect(held > allowed, f"a process that holds everything took only {held:.0f} MiB")
    return f"{said}; all activations held in memory: {held:.0f} MiB"


def peak_of(place: Place, cache: str, before: Callable[[], None] = lambda: None) -> float:
    """Run in a process of its own, and return how much memory it took at the most, in MiB."""
    child = place.start(cache, out=f"{cache}-runs", before=before)
    _, status, usage = os.wait4(child, 0)
    expect(status == 0, place_said(place))
    return usage.ru_maxrss / 1024


def hold() -> None:
    """Let this process hold what it measures."""
    kept, write = [], recording.write_shard

    def kept_and_written(*given: object, **named: object) -> Path:
        kept.append(given)
        return write(*given, **named)

    recording.write_shard = kept_and_written


WIDE = """\
patchclamp: 1
name: survive
model: {{id: {model}, weights: random}}
stimuli:
  words: {{kind: csv, path: words.csv, text: "{{text}}", labels: [sort], groups: none}}
captures:
  wide: {{site: mlp_act, positions: {{align: left, size: 16, short: error}}}}
analyses:
  apart:
    kind: rsa
    of: wide
    against: {{sort: {{kind: category, column: sort}}}}
    test: {{permute: sort, n: 99}}
  decode:
    kind: probe
    of: wide
    target: sort
    estimator: {{kind: ridge, alpha: 1.0}}
    cv: {{folds: 2}}
    controls: [majority]
run: {{device: cpu, threads: 1, batch: {{tokens: 512}}, budget: {{memory: {budget}}}}}
"""


_ARENA_MAX = -8
"""The parameter of mallopt(3): heaps of a process, else one for each thread, of 64 MiB each."""

END = {"bos_token_id": 1, "eos_token_id": 1}


def larger(folder: Path, *, stimuli: int = 300, limit: int = 128 << 20) -> str:
    """Capture and analyse more than a process may have memory for."""
    place = Place(folder).write()
    model = folder / "wide"
    GPT2Config(
        vocab_size=len(tiny.WORDS), n_positions=64, n_embd=512, n_layer=4, n_head=8, **END
    ).save_pretrained(model)
    AutoTokenizer.from_pretrained(folder / "model").save_pretrained(model)
    spec = WIDE.format(model=model, budget=f"{limit >> 20}MiB")
    (folder / "t.yaml").write_text(spec)
    for count in (40, stimuli):
        rng = np.random.default_rng(0)
        lines = [
            f"s{i},{' '.join(f'w{w}' for w in rng.integers(0, 60, size=16))},{'xy'[i % 2]}"
            for i in range(count)
        ]
        (folder / "words.csv").write_text("\n".join(["id,text,sort", *lines]) + "\n")
        if count < stimuli:  # in this process, so that all that is imported is there
            run(folder / "t.yaml", out=folder / "first", cache=folder / "first")
    size = stimuli * 4 * 16 * 2048 * 4
    expect(size > limit, f"the capture, {size}, is no larger than {limit}")
    before = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    weights = 4 * 12 * 512**2 * 4

    def limit_memory() -> None:
        # Of address space that threads reserve and never fill, how much is a matter of chance.
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
        whole = before + weights + limit
        resource.setrlimit(resource.RLIMIT_AS, (whole, whole))

    expect(place.finish(place.start("small", out="small", before=limit_memory)) == 0, place.said)
    expect(place.finish(place.start("large", out="large")) == 0, place_said(place))
    expect_same(place.result("small"), place.result("large"))
    return (
        f"a capture of {size >> 20} MiB, captured and analysed by rsa and probe in a process that "
        f"may have {limit >> 20} MiB beside its weights"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["all", "kill", "disk", "together", "memory", "larger"])
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stimuli", type=int, default=50_000)
    parser.add_argument("--tmpfs", action="store_true")
    given = parser.parse_args()
    tries: dict[str, Callable[[Path], str]] = {
        "kill": lambda folder: kill(folder, given.times, given.seed),
        "disk": tmpfs if given.tmpfs else disk,
        "together": together,
        "memory": lambda folder: memory(folder, given.stimuli),
        "larger": larger,
    }
    for name, tried in tries.items():
        # How much address space a process needs beside its data differs between machines.
        if given.what == name or (given.what == "all" and name != "larger"):
            with tempfile.TemporaryDirectory() as folder:
                sys.stdout.write(f"{tried(Path(folder))}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
