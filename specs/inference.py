"""What several analyses share: metrics, folds, tests, intervals and controls."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from patchclamp.registry import METRICS
from patchclamp.specs.fields import LabelName, Model, one_of


class MetricChoice(Model):
    """A number per stimulus from what the model says next; short form: its name."""

    kind: Annotated[str, one_of(METRICS)]
    """Name of the metric (`patchclamp list metrics`)."""


def _expand_metric(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Metric = Annotated[
    MetricChoice,
    BeforeValidator(
        _expand_metric, json_schema_input_type=Annotated[str, one_of(METRICS)] | MetricChoice
    ),
]


class LabelPermutation(Model):
    """A test that exchanges stimulus labels, never pairs: p = (k + 1) / (n + 1)."""

    permute: LabelName
    """The label column that is permuted: whole groups where it is constant within its groups,
    else stimuli within their group."""
    n: int = Field(default=1000, ge=99, le=1_000_000)
    """Number of permutations; 1000 resolves p to 0.001."""


class Bootstrap(Model):
    """An interval from resampling whole groups of stimuli."""

    n: int = Field(default=2000, ge=200, le=1_000_000)
    """Number of draws."""
    level: float = Field(default=0.95, gt=0.5, lt=1)
    """Coverage of the interval."""


Correction = Literal["max", "fdr", "none"]
"""How a family of tests is corrected: by its maximum statistic, or its false discovery rate."""


class CrossValidation(Model):
    """Folds over whole groups, drawn without looking at labels unless stratified by them."""

    folds: int = Field(default=5, ge=2, le=100)
    """Number of folds."""
    stratify: bool = False
    """Equally many groups of each class in every fold, for rare classes; permutations then
    exchange labels inside folds only, which keeps them exact and leaves fewer of them."""
    inner: int = Field(default=5, ge=2, le=100)
    """Number of folds inside each training part, where something is chosen there."""
