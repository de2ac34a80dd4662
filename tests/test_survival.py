"""What a run survives: `survive.py` tries it out in processes of their own, a little of each here.

python tests/survive.py kill --times 30
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kills
import netCDF4
import numpy as np
import pytest
import torch
import xarray as xr
from survive import Place, expect_same

import tiny
from patchclamp.engine import run
from patchclamp.engine.assemble import assemble
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.positions import Chosen
from patchclamp.engine.records import Cache, Record, file_digest
from patchclamp.engine.results import open_result
from patchclamp.engine.shards import open_shards, write_shard
from patchclamp.registry.errors import GuardError, ModelError, StoreError

assembly = sys.modules["patchclamp.engine.assemble"]
beside = sys.modules["patchclamp.engine.beside"]
costs = sys.modules["patchclamp.engine.costs"]
passes = sys.modules["patchclamp.engine.passes"]


@pytest.mark.skipif(sys.platform != "linux", reason="kills and limits as Linux has them")
def test_kills_full_disks_company_and_little_memory() -> None:
    script = Path(__file__).with_name("survive.py")
    command = [sys.executable, str(script), "all", "--times", "3", "--stimuli", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout
    assert "the disk is full: a batch of" in done.stdout
    assert "What was measured is safe in its shards" in done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A spec that has been run once, with its records in `cache` and its result in `whole`."""
    place = Place(tmp_path_factory.mktemp("survival")).write(stimuli=30)
    again(place, cache="cache", out="whole")
    return place


def again(place: Place, *, cache: str = "copy", out: str = "runs") -> list[str]:
    """Run the spec in this process; returns what was put through the model."""
    seen: list[str] = []
    run(
        place.folder / "t.yaml",
        out=place.folder / out,
        cache=place.folder / cache,
        progress=lambda what, done, total: seen.append(what),
    )
    return seen


@pytest.fixture
def copy(place: Place) -> Path:
    """A copy of the records, to be damaged."""
    folder = place.folder / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(place.folder / "cache", folder, copy_function=shutil.copy2)
    return folder


def flip(file: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "file", ["captures/*/data.nc", "answers/*/data.safetensors", "*/*/key.json"]
)
def test_a_damaged_record_is_measured_again(
    place: Place, copy: Path, file: str, damage: str
) -> None:
    for path in copy.glob(file):
        DAMAGE[damage](path)
    assert again(place), "nothing was measured"
    expect_same(place.result(), place.result("whole"))


def test_records_that_are_there_are_not_measured_again(place: Place, copy: Path) -> None:
    assert again(place) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_measured_again(place: Place, tmp_path: Path, damage: str) -> None:
    parts = {"activation/0": torch.arange(12.0).view(3, 4).bfloat16()}
    kept = write_shard(tmp_path, [4, 2, 9], parts)
    lost = write_shard(tmp_path, [1], {"activation/0": torch.ones(1, 4)})
    shutil.copy(kept, tmp_path / f"{kept.name}.tmp")
    DAMAGE[damage](lost)
    shards = open_shards(tmp_path)
    assert shards.done == {2, 4, 9}
    (((places, (found,))),) = shards.block(["activation/0"], [9, 4])
    assert places.tolist() == [0, 1]
    assert torch.equal(found, parts["activation/0"][[2, 0]])
    with pytest.raises(StoreError, match="1 of 2 rows are in no shard any more, row 1 first"):
        list(shards.block(["activation/0"], [2, 1]))


def test_a_digest_is_believed_only_if_it_is_intact(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    right = file_digest(file, tmp_path)
    (memory,) = (tmp_path / "digests").iterdir()
    for text in (memory.read_text().replace(right[:8], "00000000"), "", "\xff"):
        memory.write_text(text)
        assert file_digest(file, tmp_path) == right
    memory.unlink()
    memory.mkdir()  # it cannot be written
    assert file_digest(file, tmp_path) == right


def test_a_place_that_takes_no_result_is_told_before_anything_is_measured(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("patchclamp.engine.rig.load_weights", pytest.fail)
    spec = place.folder / "t.yaml"
    for out in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(StoreError, match=r"no result can be written to .*file' is no folder; "):
            run(spec, out=out, cache=tmp_path / "cache")
    monkeypatch.setattr("patchclamp.engine.whole.os.access", lambda *_: False)
    with pytest.raises(StoreError, match=r"may not be written to; --out names another folder"):
        run(spec, out=tmp_path / "new" / "runs", cache=tmp_path / "cache")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_leaves_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    holding = Cache(tmp_path / "cache").writing(tmp_path / "file" / "runs")
    with pytest.raises(StoreError, match=r"cannot make the folder .*: Not a directory; what was"):
        holding.__enter__()


def test_weights_that_were_replaced_are_seen_whatever_their_time(tmp_path: Path) -> None:
    """As an archive does it that gives all files one time: same name, size, time and inode."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    before, state = file_digest(file, tmp_path, linked=False), file.stat()
    with file.open("r+b") as stream:
        stream.write(b"heights")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file_digest(file, tmp_path, linked=False) != before


@pytest.mark.parametrize("sort", ["captures", "answers"])
def test_damage_that_a_file_does_not_show_is_named(place: Place, copy: Path, sort: str) -> None:
    """A bit that the disk has lost changes neither size nor time; checksums tell, in our words."""
    (file,) = [
        path
        for path in copy.glob(f"{sort}/*/data.*")
        if '"name": "whole"' in (path.parent / "key.json").read_text() or sort == "answers"
    ][:1]
    file_digest(file, copy)  # it is remembered
    state = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    with file.open("r+b") as stream:
        stream.write(data)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(StoreError, match=r"was damaged after it had been written.*Run the same"):
        again(place)
    assert again(place)
    expect_same(place.result(), place.result("whole"))


def test_looking_for_a_record_changes_nothing(place: Place, copy: Path) -> None:
    cache = Cache(copy)
    (folder,) = [f for f in (copy / "captures").iterdir() if f.is_dir()][:1]
    made = json.loads((folder / "key.json").read_text())
    parts = {name: part for name, part in made["parts"].items() if name != "algorithm"}
    record = Record("captures", made["name"], parts)
    assert cache.folder(record) == folder
    assert cache.find(record) == made
    flip(folder / "data.nc")
    before = sorted(folder.rglob("*"))
    assert cache.find(record) is None
    assert sorted(folder.rglob("*")) == before


def test_a_second_run_waits_for_the_first_and_removes_what_a_killed_one_left(
    tmp_path: Path,
) -> None:
    cache, record, waited = Cache(tmp_path), Record("captures", "a", {"site": "z"}), []
    left = cache.shards(record) / ".00000000-abc.tmp"
    left.write_bytes(b"half")
    with cache.locked([record], lambda: waited.append(True)):
        assert not left.exists()
        child = os.fork()
        if not child:
            with Cache(tmp_path).locked([record], lambda: (tmp_path / "waited").touch()):
                os._exit(0)
        while not (tmp_path / "waited").exists():
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not waited


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    lock = cache.locked([Record("captures", "a", {})])
    with pytest.raises(StoreError, match="cannot write to the cache"), lock:
        pass


Usage = namedtuple("Usage", "total used free")


def test_space_on_disk_is_checked_before_the_first_batch(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs.shutil, "disk_usage", lambda _: Usage(10**6, 10**6, 10_000))
    with pytest.raises(StoreError, match=r"the run needs \S+ \wB of disk in .* where 10 kB are"):
        again(place, cache="empty")
    assert not list((place.folder / "empty").rglob("*.safetensors"))


def test_nan_is_named_and_what_a_guard_refuses_is_not_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards = sys.modules["patchclamp.engine.guards"]
    monkeypatch.setattr(guards, "TOLERANCE", {"float32": 0.0})
    with pytest.raises(GuardError, match=r"guard 'batched = alone' failed|guard 'site identity'"):
        again(place, cache="refused")
    assert not list((place.folder / "refused" / "captures").glob("*/*"))


MESSAGES = {
    "cpu": "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
    "memory: you tried to allocate 79456665600 bytes. Error code 12 (Cannot allocate memory)",
    "cuda": "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB",
    "mps": "MPS backend out of memory (MPS allocated: 18.13 GB, other allocations: 1.2 MB)",
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_batch_without_memory_is_halved(
    place: Place, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    sizes: list[int] = []
    put_through = passes.Passes.put_through

    def limited(self: Any, inputs: Any, *left: Any) -> Any:
        sizes.append(inputs.tensors["input_ids"].numel())
        if sizes[-1] > 30:
            raise RuntimeError(message)
        return put_through(self, inputs, *left)

    monkeypatch.setattr(passes.Passes, "put_through", limited)
    shutil.rmtree(place.folder / "halved", ignore_errors=True)
    again(place, cache="halved", out="halves")
    assert max(sizes) > 30
    assert min(sizes) <= 30
    ours, whole = place.result("halves"), place.result("whole")
    for name, data in whole.items():
        for variable in data.data_vars:
            if data[variable].dtype.kind == "f":
                np.testing.assert_allclose(ours[name][variable], data[variable], atol=2e-4)


def test_one_stimulus_without_memory_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Any, *inputs: Any) -> Any:
        raise RuntimeError(MESSAGES["cpu"])

    monkeypatch.setattr(passes.Passes, "put_through", never)
    with pytest.raises(ModelError, match=r"not enough memory for stimulus 's.*' of 'words' alone"):
        again(place, cache="never")


def test_other_errors_of_a_pass_are_no_lack_of_memory(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, *inputs: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(passes.Passes, "put_through", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        again(place, cache="broken")


def plan_of(rows: int, positions: int, *, site: str = "resid_post") -> CapturePlan:
    index = np.tile(np.arange(positions, dtype=np.int32), (rows, 1))
    labels = tuple(range(positions))
    chosen = Chosen(tuple(range(rows)), index, labels, "first", every=True)
    return CapturePlan("it", "words", site, (0, 3), chosen)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_file_holds_the_shards_in_order_and_padded(tmp_path: Path, precision: str) -> None:
    rng, width, rows = np.random.default_rng(0), 5, 37
    expected = np.full((rows, 2, width, 6), np.nan, dtype=np.float32)
    order = rng.permutation(rows)
    for at in range(0, rows, 7):
        some, size = order[at : at + 7], int(rng.integers(1, width + 1))
        values = torch.from_numpy(rng.normal(size=(2, len(some), size, 6))).float()
        values = values.to(getattr(torch, precision))
        expected[some, :, :size] = values.float().movedim(0, 1).numpy()
        parts = {"activation/0": values[0], "activation/3": values[1]}
        write_shard(tmp_path, some.tolist(), parts)
    plan, path = plan_of(rows, width), tmp_path / "data.nc"
    assemble(plan, open_shards(tmp_path), path, keys=width, precision=precision)
    with xr.open_dataset(path, engine="netcdf4") as data:
        np.testing.assert_array_equal(data["activation"], expected)
        assert data["activation"].attrs["precision"] == precision
    with netCDF4.Dataset(path) as file:
        filters = file["activation"].filters()
        assert filters["fletcher32"]
        assert filters["zlib"] is filters["shuffle"] is (precision == "bfloat16")


@pytest.mark.parametrize("site", ["resid_post", "z"])
def test_chunks_that_are_all_padding_are_not_in_the_file(tmp_path: Path, site: str) -> None:
    rng, rows, width = np.random.default_rng(0), 60, 70
    lengths = np.clip(rng.lognormal(2.2, 0.8, rows), 1, width).astype(int)
    lengths[7] = width
    full = (rows, 2, width, 6) if site[0] == "r" else (rows, 2, 2, width, 3)
    expected = np.full(full, np.nan, dtype=np.float32)
    for row, size in enumerate(lengths):
        shape = (2, 1, size, 6) if site[0] == "r" else (2, 1, 2, size, 3)
        values = torch.from_numpy(rng.normal(size=shape)).float()
        expected[row, ..., :size, :] = values[:, 0].numpy()
        write_shard(
            tmp_path, [row], {f"activation/{n}": v for n, v in zip((0, 3), values, strict=True)}
        )
    index = np.where(np.arange(width) < lengths[:, None], np.arange(width), -1).astype(np.int32)
    chosen = Chosen(tuple(range(rows)), index, tuple(range(width)), "first", every=True)
    path, files = tmp_path / "data.nc", {}
    for name, least in (("few", 1), ("many", 1 << 18)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assembly, "_RAGGED_LEAST", least)
            plan = CapturePlan("it", "words", site, (0, 3), chosen)
            assemble(plan, open_shards(tmp_path), path, keys=width, precision="float32")
        with xr.open_dataset(path, engine="netcdf4") as data:
            np.testing.assert_array_equal(data["activation"], expected)
        files[name] = path.stat().st_size
    # One stimulus and 16 positions a chunk against all stimuli, of which one is as long as any.
    kept = np.sum(-(-lengths // 16) * 16) / (rows * 80)
    assert files["few"] < 2 * kept * files["many"]


def test_assembly_takes_the_same_memory_for_more_stimuli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "_BLOCK", 1 << 15)
    monkeypatch.setattr(assembly, "_LEAST", 1 << 14)
    peaks = []
    for rows in (40, 4000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        for at in range(0, rows, 40):
            parts = {f"activation/{layer}": torch.rand(40, 8, 16) for layer in (0, 3)}
            write_shard(folder, range(at, at + 40), parts)
        shards = open_shards(folder)
        tracemalloc.start()
        assemble(plan_of(rows, 8), shards, folder / "data.nc", keys=8, precision="float32")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The whole is 4 MB; what grows is where each row is, 16 bytes of it.
    assert peaks[1] < peaks[0] + 4000 * 100 + (1 << 17)


def test_a_large_capture_lies_beside_its_result(
    place: Place, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "LARGE", 20_000)
    again(place, out="large")
    (folder,) = (place.folder / "large" / "survive").iterdir()
    assert [file.name for file in (folder / "captures").iterdir()] == ["whole.nc"]
    (source,) = [
        f for f in copy.glob("captures/*/data.nc") if f.samefile(folder / "captures/whole.nc")
    ]
    assert source.stat().st_nlink == 2
    # As docs/schema.md joins them, without us.
    labels = xr.open_dataset(folder / "result.nc", group="captures/whole", engine="netcdf4")
    assert not labels.data_vars
    assert labels.attrs["data"] == "captures/whole.nc"
    with xr.open_dataset(folder / labels.attrs["data"], engine="netcdf4") as numbers:
        joined = numbers.assign_coords(labels.coords).load()
    whole = place.result("whole")["/captures/whole"]
    xr.testing.assert_identical(joined["activation"], whole["activation"])
    with open_result(folder) as found:
        capture = found.capture("whole")["activation"].load()
        xr.testing.assert_identical(capture.drop_vars("token_text"), whole["activation"])
        # The texts of its tokens are those that its set names.
        table = found.stimuli("words")
        words = dict(zip(table["token"].values, table["token_text"].values, strict=True))
        first = capture["token_id"].values[0, 0]
        assert capture["token_text"].values[0, 0] == words[first]
        assert found.capture("heads").data_vars
    again(place, out="large")  # over what is there
    shutil.rmtree(folder / "captures")
    with open_result(folder) as found:
        assert found.analyses
        with pytest.raises(StoreError, match=r"'captures/whole\.nc' beside it, which is not there"):
            found.capture("whole")


def test_a_large_capture_is_copied_where_it_cannot_be_linked(
    place: Place, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(beside, "LARGE", 20_000)
    monkeypatch.setattr(beside.os, "link", refuse)
    again(place, out="copied")
    expect_same(
        place.result("copied"),
        {
            name: data.assign_attrs(data="captures/whole.nc") if name == "/captures/whole" else data
            for name, data in place.result("whole").items()
        },
    )
    (file,) = (place.folder / "copied").rglob("whole.nc")
    assert file.stat().st_nlink == 1


@pytest.mark.skipif(shutil.which("ncdump") is None, reason="needs netcdf-bin")
def test_ncdump_reads_results_and_records(place: Place) -> None:
    files = [
        *place.folder.glob("whole/*/*/result.nc"),
        *place.folder.glob("cache/captures/*/data.nc"),
    ]
    assert len(files) == 4
    for file in files:
        done = subprocess.run(["ncdump", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "activation" in done.stdout or "mean_over_stimulus" in done.stdout


def test_tiny_models_are_what_is_tried(place: Place) -> None:
    assert set(tiny.CONFIGS) >= {place.name}


SWEEP = """\
patchclamp: 1
name: sweep
model: MODEL
stimuli:
  words:
    kind: csv
    path: slots.csv
    text: "{a} w1 {b} {text}"
    groups: none
    answer: {correct: " w40", foil: " w41"}
    take: {n: 4}
interventions:
  zero: {kind: ablate, value: zero}
analyses:
  heads: {kind: ablation, with: zero, units: {site: z}, metric: logit_diff}
run: {device: cpu, threads: 1, batch: {tokens: 34}}
"""


def test_what_is_left_of_a_batch_runs_in_the_passes_that_it_would_have_run_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a run ends, the next one makes the passes that are left, and no other."""
    tiny.make("llama", tmp_path / "model")
    kills.write(tmp_path)
    spec = tmp_path / "t.yaml"
    spec.write_text(SWEEP.replace("MODEL", str(tmp_path / "model")))
    monkeypatch.setattr(passes.Passes, "_run", passes.Passes._run)  # put back at the end
    answering, write = sys.modules["patchclamp.engine.answering"], write_shard

    def made(cache: str, ends_at: int | None = None) -> tuple[Any, list[str]]:
        file, left = tmp_path / f"{cache}.{ends_at}", [ends_at]

        def writes(*given: Any) -> Any:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            return write(*given)

        with monkeypatch.context() as patch:
            patch.setattr(passes.Passes, "_run", passes.Passes._run)
            kills.note(file)
            patch.setattr(answering, "write_shard", writes)
            result = None
            try:
                result = run(spec, out=tmp_path / cache, cache=tmp_path / cache)
            except KeyboardInterrupt:
                assert ends_at is not None
        return result, kills.notes(file)

    whole, due = made("whole")
    count = sum(one.startswith(kills.CHANGED) for one in due)
    assert count > 12, due
    assert any(one.startswith(kills.BEGUN) for one in due)
    for ends_at in (count // 2 - 1, count - 1):
        _, first = made(f"cut{ends_at}", ends_at)
        result, then = made(f"cut{ends_at}")
        first, then = (kills.told_apart(some, due) for some in (first, then))
        assert {*first, *then} == set(kills.told_apart(due, due))
        assert kills.lost(first, then)[kills.CHANGED] == 1
        assert kills.in_flight(kills.lost(first, then))
        xr.testing.assert_identical(result.analysis("heads"), whole.analysis("heads"))
