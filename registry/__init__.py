"""What names mean: tables of models, sites, stimulus sets, metrics, analyses and backends."""

from patchclamp.registry.analyses import ANALYSES
from patchclamp.registry.architectures import ARCHITECTURES
from patchclamp.registry.backends import BACKENDS
from patchclamp.registry.errors import PatchclampError
from patchclamp.registry.metrics import METRICS
from patchclamp.registry.models import MODELS
from patchclamp.registry.sites import SITES
from patchclamp.registry.stimuli import STIMULI

__all__ = [
    "ANALYSES",
    "ARCHITECTURES",
    "BACKENDS",
    "METRICS",
    "MODELS",
    "SITES",
    "STIMULI",
    "PatchclampError",
]
