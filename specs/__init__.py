"""What may be asked: the grammar of a spec, its loading and checking, and the shipped specs."""

from patchclamp.specs.digest import digest, resolved
from patchclamp.specs.load import Loaded, load, loads
from patchclamp.specs.spec import Spec

__all__ = ["Loaded", "Spec", "digest", "load", "loads", "resolved"]
