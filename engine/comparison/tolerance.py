"""Tolerances: how far two values may be apart, and who says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import xarray as xr

from patchclamp.registry.errors import UsageError, nearest

PRESETS: Mapping[str, float] = {"exact": 0.0, "fp32": 1e-5, "bf16": 2e-2}
"""Preset -> difference allowed, relative to a variable's scale; for labels, the share of elements
that may differ. One model run in float32 with another batch size or number of threads moves
activations by 4e-6 of their largest value, in bfloat16 by 6e-3: `fp32` and `bf16` leave a factor of
about three. `exact` is for the same machine and settings."""

PRECISIONS: Mapping[str, str] = {"float32": "fp32", "float16": "bf16", "bfloat16": "bf16"}
"""dtype of a model -> the preset for its numbers."""

NATURAL = ("1", "Fisher z")
"""Units of numbers whose natural scale is 1: shares, correlations, probabilities. Such a number can
be small by chance, and the noise on it does not become smaller with it."""

NOISE_FACTOR = 4.0
"""Measured noise is the largest of a few tries; the next one may be larger."""


@dataclass(frozen=True)
class Tolerance:
    """A difference is allowed up to `absolute`, or up to `relative` times the scale."""

    absolute: float
    relative: float
    source: str

    def allowed(self, scale: float) -> float:
        """Return the largest difference that is no difference."""
        return max(self.absolute, self.relative * scale)

    def share(self) -> float:
        """Return the share of labels or whole numbers that may differ."""
        return self.relative


@dataclass(frozen=True)
class Given:
    """A tolerance or margin that the command line gives to the variables of a pattern."""

    pattern: str
    value: float
    relative: bool
    option: str

    def __str__(self) -> str:
        value = f"{100 * self.value:g}%" if self.relative else f"{self.value:g}"
        return f"{self.option} {self.pattern}={value}"


@dataclass(frozen=True)
class Tolerances:
    """All that decides tolerances; what comes first decides.

    1. `given` on the command line, the last that matches.
    2. `preset`, where the command line names one.
    3. `noise`, measured for this spec: four times its largest, at least a tenth of the preset's.
    4. The preset for the `precision` of the model.

    With 2 (but `exact`), 3 and 4, what the analysis declares on the variable (attribute
    `tolerance`, in its units) is allowed as well: a few tries may not meet a borderline stimulus.
    """

    given: Sequence[Given] = ()
    preset: str | None = None
    precision: str = "float32"
    noise: Mapping[str, float] = field(default_factory=dict)
    noise_source: str = ""

    def of(self, name: str, data: xr.DataArray) -> Tolerance:
        """Return the tolerance of a variable, named by group and name."""
        for one in reversed(self.given):
            if matches(one.pattern, name):
                if one.relative:
                    return Tolerance(0.0, one.value, str(one))
                return Tolerance(one.value, 0.0, str(one))
        if self.preset is not None:
            return self._or_declared(PRESETS[self.preset], f"preset {self.preset}", data)
        preset = PRECISIONS.get(self.precision, "fp32")
        if name in self.noise:
            relative = max(NOISE_FACTOR * self.noise[name], PRESETS[preset] / 10)
            return self._or_declared(relative, f"{NOISE_FACTOR:g} × {self.noise_source}", data)
        return self._or_declared(PRESETS[preset], f"preset {preset}", data)

    def _or_declared(self, relative: float, source: str, data: xr.DataArray) -> Tolerance:
        declared = float(data.attrs.get("tolerance", 0.0))
        if relative == 0 or declared == 0:
            return Tolerance(0.0, relative, source)
        return Tolerance(declared, relative, f"{source}, or {declared:.2g} as the analysis says")


def natural_scale(data: xr.DataArray) -> tuple[float | None, float]:
    """Return the scale that a variable declares, and the least that its own size counts for."""
    declared = data.attrs.get("scale")
    least = 1.0 if data.attrs.get("units") in NATURAL else 0.0
    return (None if declared is None else float(declared)), least


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern means a variable: any part of its path, and all that is below.

    >>> [matches(text, "analyses/decode/accuracy") for text in ("decode/acc*", "analyses", "acc")]
    [True, True, False]
    """
    return any(
        fnmatchcase(name, before + pattern + after) for before in ("", "*/") for after in ("", "/*")
    )


def read_given(text: str, option: str) -> Given:
    """Read `PATTERN=VALUE`: a number in the variable's units, or a percentage of its scale.

    >>> str(read_given("decode/*=1%", "--tol"))
    '--tol decode/*=1%'
    """
    pattern, sign, value = text.rpartition("=")
    relative = value.endswith("%")
    try:
        number = float(value.removesuffix("%")) / (100 if relative else 1)
    except ValueError:
        number = -1.0
    if not sign or not pattern or not 0 <= number < float("inf"):
        raise UsageError(
            f"{option} takes PATTERN=VALUE, a number in the variable's units or a percentage of "
            f"its scale, such as 'decode/accuracy=0.01' or 'resid/*=0.1%'; got {text!r}"
        )
    return Given(pattern, number, relative, option)


def require_matches(patterns: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
    """Raise `UsageError` for a pattern, given with its option, that means no variable."""
    for option, pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            groups = sorted({name.rpartition("/")[0] for name in names})
            parts = pattern.count("/") + 1
            near = nearest(pattern, ["/".join(name.split("/")[-parts:]) for name in names])
            slip = f"; did you mean {near!r}?" if near else ""
            raise UsageError(
                f"{option} {pattern!r} means no variable (there are those of "
                f"{', '.join(groups)}){slip}"
            )
