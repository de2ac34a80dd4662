"""Which tokens: by name, by number, or a window of them."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from patchclamp.specs.fields import KINDLESS, Model, written

FIXED = ("first", "last", "all", "answer")
"""Positions that every stimulus has; `answer` is where the answer is read, the last token."""

_NAME = r"^[a-z][a-z0-9_]*(\.(first|last|all))?$"


def _parse_anchor(value: Any) -> str | int:
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(_NAME, value):
        return value
    raise ValueError(
        f"a position is {', '.join(FIXED)}, a number, or a span such as name.last; got {value!r}"
    )


Anchor = Annotated[
    str | int,
    written(_parse_anchor, Literal[FIXED] | Annotated[str, Field(pattern=_NAME)] | int),
]
"""`first`, `last`, `all`, `answer`, a number counted from the first token (negative: from the
last), or a span: `name`, `name.first`, `name.last`, `name.all`. Where a tokenizer puts a mark
behind each text, `last` could be that or the text's own: say -1 or -2. `first` is the BOS, where
there is one."""


class Named(Model):
    """Positions by name or number, in this order; short form: one of them, or their list."""

    kind: Literal["named"]
    at: tuple[Anchor, ...] = Field(min_length=1)
    """The positions."""


class Window(Model):
    """A stretch of tokens around an anchor; short form: the mapping without `kind`."""

    kind: Literal["window"]
    align: Anchor
    """What it is laid along: `left` (from the first token), `centre` (of the text), or one token:
    `first`, `last`, `answer`, a number, or of a span, `name.first` or `name.last`."""
    size: int | None = Field(default=None, ge=1)
    """Number of tokens from `left`."""
    before: int | None = Field(default=None, ge=0)
    """Tokens before the centre, token or span."""
    after: int | None = Field(default=None, ge=0)
    """Tokens after it."""
    skip: Literal["bos", "none"] = "bos"
    """Whether a BOS or [CLS] token counts, and a mark that the tokenizer puts behind each text;
    activations of a BOS are of another size than all others."""
    short: Literal["error", "drop", "mask"] = "error"
    """What happens to a stimulus that does not fill the window: an error, it is dropped and
    counted, or the missing tokens are masked. It is never filled with zeros."""
    at_least: float = Field(default=0.9, ge=0, le=1)
    """Share of stimuli that `drop` must leave; fewer are an error."""

    @model_validator(mode="after")
    def _extent(self) -> Self:
        if self.align == "all":
            raise ValueError("a window is laid along one token; 'all' is none")
        around = self.before is not None and self.after is not None
        if self.align == "left":
            if self.size is None or self.before is not None or self.after is not None:
                raise ValueError("a window aligned left needs 'size', and no 'before' or 'after'")
        elif not around or self.size is not None:
            raise ValueError(
                f"a window aligned at {self.align!r} needs 'before' and 'after', and no 'size'"
            )
        return self


def _expand_positions(value: Any) -> Any:
    if isinstance(value, str | int):
        return {"kind": "named", "at": (value,)}
    if isinstance(value, list | tuple):
        return {"kind": "named", "at": tuple(value)}
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "window", **value}
    return value


Positions = Annotated[
    Annotated[Named | Window, Field(discriminator="kind")],
    BeforeValidator(
        _expand_positions,
        json_schema_input_type=Anchor | list[Anchor] | Named | Annotated[Window, KINDLESS],
    ),
]
"""Which tokens an entry is about."""

LAST = Named.model_construct(kind="named", at=("last",))
ALL = Named.model_construct(kind="named", at=("all",))
