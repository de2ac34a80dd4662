"""Every code explained; `patchclamp explain P104` prints one."""

from __future__ import annotations

from patchclamp.registry.table import Table
from patchclamp.specs.explanation import Explanation
from patchclamp.specs.explanations_backends import BACKENDS
from patchclamp.specs.explanations_composition import COMPOSITION
from patchclamp.specs.explanations_data import DATA
from patchclamp.specs.explanations_deep import DEEP
from patchclamp.specs.explanations_grammar import GRAMMAR
from patchclamp.specs.explanations_lints import LINTS
from patchclamp.specs.explanations_references import REFERENCES
from patchclamp.specs.explanations_yaml import YAML

EXPLANATIONS: Table[Explanation] = Table(
    "diagnostic code", (*YAML, *GRAMMAR, *REFERENCES, *BACKENDS, *DATA, *DEEP, *COMPOSITION, *LINTS)
)
"""Code -> its explanation; a test holds that every code has one, and that its pieces of YAML are
wrong and right."""
