"""What names mean: tables of models, sites, stimuli, metrics, analyses, figures and backends."""

from patchclamp.registry.analyses import ANALYSES
from patchclamp.registry.architectures import ARCHITECTURES
from patchclamp.registry.backends import BACKENDS
from patchclamp.registry.errors import PatchclampError
from patchclamp.registry.figures import FIGURES
from patchclamp.registry.metrics import METRICS
from patchclamp.registry.models import MODELS
from patchclamp.registry.sites import SITES
from patchclamp.registry.stimuli import STIMULI

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
