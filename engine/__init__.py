"""All that touches a model, a disk, a network or a terminal.

What this door offers is imported on first use, so that `patchclamp validate` starts without
torch.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from patchclamp.registry.table import load

if TYPE_CHECKING:
    from patchclamp.engine.comparison.compare import Comparison, compare
    from patchclamp.engine.plan import Plan
    from patchclamp.engine.plan import make_plan as plan
    from patchclamp.engine.results import StoredResult, open_result
    from patchclamp.engine.run import Result, run

__all__ = [
    "Comparison",
    "Plan",
    "Result",
    "StoredResult",
    "compare",
    "open_result",
    "plan",
    "run",
]


def _late(reference: str) -> Any:
    """Return an attribute imported on first use.

    Its setter does nothing: importing the submodule `run` must not put the module in the place
    of the function, whatever is imported first.
    """
    return property(lambda _: load(reference), lambda _, __: None)


class _Door(ModuleType):
    Comparison = _late("patchclamp.engine.comparison.compare:Comparison")
    Plan = _late("patchclamp.engine.plan:Plan")
    Result = _late("patchclamp.engine.run:Result")
    StoredResult = _late("patchclamp.engine.results:StoredResult")
    compare = _late("patchclamp.engine.comparison.compare:compare")
    open_result = _late("patchclamp.engine.results:open_result")
    plan = _late("patchclamp.engine.plan:make_plan")
    run = _late("patchclamp.engine.run:run")


sys.modules[__name__].__class__ = _Door
