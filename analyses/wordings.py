"""When a text that a model wrote counts as right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Rule = Literal["exact", "contains", "first_number"]

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def is_right(written: str, answers: Sequence[str], *, rule: Rule) -> bool:
    """Return whether a text says one of the answers.

    `exact`: it is the answer, but for space around it. `contains`: the answer stands in it, and
    not as part of a longer word or number. `first_number`: its first number is the answer.

    >>> is_right(" 12, 13", ["12"], rule="first_number"), is_right(" 12", ["1"], rule="contains")
    (True, False)
    """
    return any(_says(written, answer.strip(), rule) for answer in answers)


def _says(written: str, answer: str, rule: Rule) -> bool:
    if rule == "exact":
        return written.strip() == answer
    if rule == "contains":
        return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", written) is not None
    found = _NUMBER.search(written)
    return found is not None and _NUMBER.fullmatch(answer) is not None and found[0] == answer


def after(written: str, prompt: str, mark: str) -> str | None:
    """Return what of a text follows a mark, all of it where the prompt has the mark already.

    None if the mark is nowhere.

    >>> after("so Answer: 4", "2 + 2?", "Answer:"), after(" 4", "Answer:", "Answer:")
    (' 4', ' 4')
    """
    _, found, rest = written.partition(mark)
    if found:
        return rest
    return written if mark in prompt else None
