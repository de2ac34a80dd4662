"""Labelled dataset in, labelled dataset out: kernels on arrays, and thin labelled wrappers."""

from patchclamp.analyses.bootstrap import group_bootstrap
from patchclamp.analyses.rdm import dissimilarities, fisher_z
from patchclamp.analyses.seeds import Seeds

__all__ = ["Seeds", "dissimilarities", "fisher_z", "group_bootstrap"]
