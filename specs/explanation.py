"""What there is to say about one code: what is wrong, why it matters, how to mend it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from patchclamp.specs.codes import CODES, LINTS

WIDTH = 88
"""Columns of explained text on a terminal."""


@dataclass(frozen=True)
class Explanation:
    """A code explained, with a wrong and a right piece of a spec.

    Where only data, a tokenizer or a model can tell a mistake (P4xx), the wrong piece passes
    `validate`, and the mistake is found when a run is planned.
    """

    code: str
    what: str
    why: str
    fix: str
    wrong: str
    right: str

    def __post_init__(self) -> None:
        for field in ("what", "why", "fix"):
            object.__setattr__(self, field, " ".join(getattr(self, field).split()))
        for field in ("wrong", "right"):
            object.__setattr__(self, field, textwrap.dedent(getattr(self, field)).strip("\n"))

    @property
    def name(self) -> str:
        """The code, under which a table holds this."""
        return self.code

    @property
    def summary(self) -> str:
        """The title of the code."""
        return CODES[self.code]

    def text(self) -> str:
        """Return the explanation for a terminal."""
        parts = [f"{self.code}: {self.summary}"]
        parts += [textwrap.fill(part, WIDTH) for part in (self.what, self.why)]
        parts.append("wrong:\n\n" + textwrap.indent(self.wrong, "    "))
        parts.append("right:\n\n" + textwrap.indent(self.right, "    "))
        parts.append(textwrap.fill(f"To mend it: {self.fix}", WIDTH))
        if self.code in LINTS:
            parts.append(textwrap.fill(f"If it is meant: {self.allowing}", WIDTH))
        return "\n\n".join(parts)

    @property
    def allowing(self) -> str:
        """How a spec says that a lint is meant."""
        return (
            f"write the reason into the spec, `allow: {{{self.code}: ...}}` at the top level; it "
            "is then counted and not shown."
        )

    def markdown(self) -> str:
        """Return the explanation for a page."""
        wrong, right = (f"```yaml\n{snippet}\n```" for snippet in (self.wrong, self.right))
        parts = [f"**{self.summary}**", self.what, self.why, "Wrong:", wrong, "Right:", right]
        parts.append(f"To mend it: {self.fix}")
        parts += [f"If it is meant: {self.allowing}"] if self.code in LINTS else []
        return "\n\n".join(parts)
