"""Names beside points: where they stand so that none covers a point or another name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from patchclamp.engine.figures.sketch import Array

LETTER, LINE = 0.024, 0.042
"""Width of a letter and height of a line, as shares of the sides of a plane."""

ROOM = 1.25
"""How much wider than its points a plane is whose points have names."""

GAP = 0.015
"""Share of the side between a point and its name."""

Side = Literal["right", "left"]


def sides(x: Array, y: Array, names: Sequence[str], reach: float) -> list[Side | None]:
    """Return at which side of its point each name stands; None where it would cover something.

    `x`, `y`: points of a plane from -reach to reach; those that come first are named first. A
    point without a name has no side.

    >>> sides(np.array([0.0, 0.05]), np.array([0.0, 0.0]), ("a", "b"), 1.0)
    ['left', 'right']
    """
    width = 2 * reach
    taken: list[tuple[float, float, float, float]] = []
    found: list[Side | None] = []
    for point, name in enumerate(names):
        others = np.arange(len(x)) != point
        side = None
        for candidate in ("right", "left") if name else ():
            box = _box(x[point], y[point], len(name), width, candidate)
            inside = box[0] >= -reach and box[1] <= reach
            covers = (x > box[0]) & (x < box[1]) & (y > box[2]) & (y < box[3]) & others
            if inside and not covers.any() and not any(_overlap(box, one) for one in taken):
                side = candidate
                taken.append(box)
                break
        found.append(side)  # type: ignore[arg-type]
    return found


def _box(
    x: float, y: float, letters: int, width: float, side: str
) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of a name."""
    near, far = GAP * width, (GAP + LETTER * letters) * width
    left, right = (x + near, x + far) if side == "right" else (x - far, x - near)
    return left, right, y - LINE * width / 2, y + LINE * width / 2


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
