"""The command `noise`: how far the numbers of a spec move when only the way they are computed does.

The spec is run as it is and with another batch size, another number of threads and so on, each time
measuring everything anew. What moved most, relative to each variable's scale, is stored beside the
results of the spec, where `compare` finds it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from patchclamp.engine.comparison.compare import Comparison, Options, compare
from patchclamp.engine.comparison.noise_file import NOISE
from patchclamp.engine.comparison.tolerance import PRECISIONS, PRESETS
from patchclamp.engine.provenance import versions
from patchclamp.engine.run import run
from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import UsageError
from patchclamp.specs.formats import count
from patchclamp.specs.load import Loaded, load

MANY = 4
"""How much larger than the spec's own a larger batch is."""


@dataclass(frozen=True)
class Moved:
    """How far a variable moved at most: relative to its scale; for labels, the share of changes."""

    relative: float
    absolute: float | None
    by: str


@dataclass(frozen=True)
class Noise:
    """What was measured for a spec, and how."""

    digest: str
    at: str
    variations: tuple[str, ...]
    versions: Mapping[str, str]
    variables: Mapping[str, Moved]


def noise_command(args: Namespace) -> int:
    """Measure the noise of a spec and store it."""
    found, path = measure_noise(
        args.spec, args.vary or None, out=Path(args.out), overrides=args.set
    )
    preset = PRECISIONS.get(load(args.spec, args.set).spec.model.dtype, "fp32")
    moving = {name: moved for name, moved in found.variables.items() if moved.relative}
    width = max(map(len, moving), default=8)
    sys.stdout.write(f"{'variable':<{width}}  relative to scale  moved most by\n")
    for name, moved in sorted(moving.items(), key=lambda item: -item[1].relative):
        beyond = f"  (beyond {preset})" if moved.relative > PRESETS[preset] else ""
        sys.stdout.write(f"{name:<{width}}  {moved.relative:17.2e}  {moved.by}{beyond}\n")
    still = count(len(found.variables) - len(moving), "variable")
    sys.stdout.write(
        f"{still} did not move\nwrote {path}; compare takes it as tolerance for this spec\n"
    )
    return 0


def variations_of(loaded: Loaded) -> tuple[str, ...]:
    """Return the variations that are tried unless others are asked for."""
    tokens = loaded.spec.run.batch.tokens
    batches = (f"run.batch.tokens={n}" for n in (1, MANY * tokens))
    threads = (f"run.threads={n}" for n in (1, 2) if n <= (os.cpu_count() or 1))
    return (*batches, *threads)


def measure_noise(
    spec: str | Path,
    variations: Sequence[str] | None = None,
    *,
    out: Path = Path("runs"),
    overrides: Sequence[str] = (),
) -> tuple[Noise, Path]:
    """Run a spec as it is and in every variation, and write down how far each variable moved.

    A variation is an override of a key of `run`, which changes no number but for noise. Returns
    what was found and the file, which lies in the folder of the spec's run under `out`.
    """
    loaded = load(spec, overrides)
    chosen = variations_of(loaded) if variations is None else tuple(variations)
    for variation in chosen:
        if not variation.startswith("run."):
            raise UsageError(
                f"noise is what changes with a key of 'run', such as run.batch.tokens=1; "
                f"{variation!r} changes the science"
            )
    with tempfile.TemporaryDirectory(prefix="patchclamp-noise-") as folder:
        base = _run(spec, Path(folder) / "as-it-is", overrides)
        moved: dict[str, Moved] = {}
        for number, variation in enumerate(chosen):
            other = _run(spec, Path(folder) / str(number), (*overrides, variation))
            found = compare(base, other, Options(preset="exact"))
            _add(moved, found, variation)
        place = base.relative_to(Path(folder) / "as-it-is" / "runs").parent
        noise = Noise(
            digest=_digest(base),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            variations=chosen,
            versions=versions(),
            variables=moved,
        )
    path = out / place / NOISE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(asdict(noise), indent=1) + "\n").encode())
    return noise, path


def _run(spec: str | Path, folder: Path, overrides: Sequence[str]) -> Path:
    """Run a spec where nothing has been measured yet: what was kept would not move."""
    result = run(spec, out=folder / "runs", cache=folder / "cache", overrides=overrides)
    return result.path


def _digest(path: Path) -> str:
    from patchclamp.engine.results import open_result

    with open_result(path) as result:
        return str(result.attrs["digest"])


def _add(moved: dict[str, Moved], found: Comparison, variation: str) -> None:
    """Keep what moved further than in the variations before."""
    for row in found.rows:
        values = row.values
        if values is None or row.coordinate:
            continue
        relative = values.relative or 0.0
        if values.whole:
            relative = values.beyond / max(values.compared, 1)
        known = moved.get(row.name)
        if known is None or relative > known.relative:
            by = variation if relative else "nothing"
            moved[row.name] = Moved(relative, values.absolute, by)
