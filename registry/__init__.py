"""What names mean: tables of models, sites, stimuli, metrics, analyses, figures and backends.

Checking a spec needs no architecture, model or figure: their tables are imported when asked for.
"""

from typing import TYPE_CHECKING, Any

from patchclamp.registry.analyses import ANALYSES
from patchclamp.registry.backends import BACKENDS
from patchclamp.registry.errors import PatchclampError
from patchclamp.registry.metrics import METRICS
from patchclamp.registry.sites import SITES
from patchclamp.registry.stimuli import STIMULI
from patchclamp.registry.table import load

if TYPE_CHECKING:
    from patchclamp.registry.architectures import ARCHITECTURES
    from patchclamp.registry.figures import FIGURES
    from patchclamp.registry.models import MODELS

__all__ = [
    "ANALYSES",
    "ARCHITECTURES",
    "BACKENDS",
    "FIGURES",
    "METRICS",
    "MODELS",
    "SITES",
    "STIMULI",
    "PatchclampError",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(f"patchclamp.registry.{name.lower()}:{name}")
