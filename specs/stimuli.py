"""What may be asked of stimuli: where they come from and what their columns mean."""

from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import BeforeValidator, Field, model_validator

from patchclamp.registry import STIMULI
from patchclamp.specs.fields import AnsweredRef, LabelName, Model, Name, StimuliRef, one_of

Scalar = str | int | float | bool


class Answer(Model):
    """What the model should say next, and what that competes with; templates over columns."""

    correct: str = Field(min_length=1)
    """The right continuation, with its leading space; with `options`, which of them is right."""
    foil: str | None = None
    """The wrong continuation that a logit difference subtracts."""
    options: tuple[str, ...] = ()
    """The choices of a multiple-choice question, as the text names them."""
    variants: tuple[str, ...] = ("{x}",)
    """Every spelling of an answer `x` that counts as it, such as `[" {x}", "{x}"]`."""
    combine: Literal["logsumexp", "max", "first"] = "logsumexp"
    """How spellings are put together; `logsumexp` adds their probabilities."""
    tokens: Literal["one", "teacher_forced"] = "one"
    """`one`: every spelling must be one token. `teacher_forced`: several tokens are scored by
    the sum of their log-probabilities, each given those before it."""

    @model_validator(mode="after")
    def _options(self) -> Self:
        if self.options and self.foil is not None:
            raise ValueError("'foil' and 'options' do not go together: the other options are foils")
        return self


class Span(Model):
    """A stretch of the text, found through the tokenizer's offsets; short form: its template."""

    text: str = Field(min_length=1)
    """What it says; a template over columns."""
    occurrence: Literal["only", "first", "last"] = "only"
    """Which place, where the text says it several times; `only` makes several an error."""


def _expand_span(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


SpanChoice = Annotated[Span, BeforeValidator(_expand_span, json_schema_input_type=str | Span)]


class Take(Model):
    """A part of the stimuli."""

    n: int = Field(ge=1)
    """How many; fewer are an error, unless `fewer` allows it."""
    by: LabelName | None = None
    """With a label, `n` of each of its values."""
    draw: Literal["first", "random"] = "random"
    """Which: the first of the file, or a seeded draw without replacement."""
    fewer: bool = False
    """Whether it is enough to take what there is."""


class KeepIf(Model):
    """Keep what the model itself solves; short form: the condition."""

    holds: str = Field(min_length=1)
    """A condition over metrics of the clean run, such as `rank == 0 and p > 2 * p_foil`."""
    together: tuple[str, ...] = ()
    """Columns whose equal values tie stimuli together: all of them hold, or all are dropped."""


def _expand_keep(value: Any) -> Any:
    return {"holds": value} if isinstance(value, str) else value


KeepChoice = Annotated[KeepIf, BeforeValidator(_expand_keep, json_schema_input_type=str | KeepIf)]


class Split(Model):
    """Parts that keep groups together; results have them as the coordinate `split`."""

    parts: dict[Name, float] = Field(min_length=2)
    """Share of each part, adding up to 1, such as `{train: 0.8, test: 0.2}`."""
    by: LabelName | None = None
    """A column whose values are never divided between parts, nor are groups in any case."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        shares = self.parts.values()
        if any(share <= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
            raise ValueError(f"shares are above 0 and add up to 1; got {sum(shares):g} in all")
        return self


class Partners(Model):
    """The set whose stimuli these are the corrupted or otherwise changed versions of."""

    of: AnsweredRef
    """The clean set."""
    by: Literal["id", "order"] = "id"
    """How a stimulus finds its partner."""
    equal_length: Literal["error", "warn", "any"] = "error"
    """What happens where partners differ in their number of tokens."""


class Rows(Model):
    """What every set with rows of its own has; columns are named, never counted."""

    text: str = Field(min_length=1)
    """The prompt: a template over columns, such as `"{prompt}"`; `{{` is a brace."""
    id: str | None = None
    """Column that names each stimulus; None takes a column `id`, or else numbers the rows."""
    columns: dict[Name, str] = {}
    """Further columns, made by templates over those that are there."""
    labels: tuple[str, ...] = ()
    """Columns kept as coordinates of every result."""
    groups: str | None = None
    """Column of items that belong together (a template, a topic): a group never straddles a
    fold, and permutations respect it. `none` says that stimuli are independent."""
    answer: Answer | None = None
    """What the model should say next; metrics need it."""
    spans: dict[Name, SpanChoice] = {}
    """Stretches of the text by name, which positions can refer to."""
    slots: tuple[str, ...] = ()
    """Columns whose values stand in the text and may be rearranged by `kind: corrupt`."""
    where: str | None = None
    """A condition over columns, and `words` and `tokens` (their counts), that rows must meet."""
    take: Take | None = None
    """A part of what is there; None takes all."""
    keep_if: KeepChoice | None = None
    """What the model must do with a stimulus for it to stay."""
    split: Split | None = None
    """Named parts, for analyses that choose on one and test on another."""
    partners: Partners | None = None
    """The clean set whose changed versions these are, stimulus by stimulus."""


class Builtin(Rows):
    """A stimulus set that ships with patchclamp (`patchclamp list stimuli`)."""

    kind: Literal["builtin"]
    set: Annotated[str, one_of(STIMULI)]
    """Name of the set."""


class Csv(Rows):
    """A CSV file with a header line, UTF-8; every value is text."""

    kind: Literal["csv"]
    path: str = Field(min_length=1)
    """The file, relative to the spec's own folder."""


class Jsonl(Rows):
    """A file with one JSON object a line; its members become columns.

    Those of an object inside are `choices_text` for `text` of `choices`.
    """

    kind: Literal["jsonl"]
    path: str = Field(min_length=1)
    """The file, relative to the spec's own folder."""


class Items(Rows):
    """Stimuli written into the spec itself."""

    kind: Literal["items"]
    items: tuple[dict[str, Scalar], ...] = Field(min_length=1)
    """One mapping of columns to values for each stimulus."""


class Hub(Rows):
    """A Hugging Face dataset (needs the extra `hub`); class labels are columns of their names.

    The members of nested columns are columns: `choices_text` for `text` of `choices`.
    """

    kind: Literal["hub"]
    dataset: str = Field(min_length=1)
    """Its id, `owner/name`, or a folder in one of its formats, relative to the spec's own."""
    config: str | None = None
    """Its configuration, where it has several."""
    split_name: str = "train"
    """Which of its own splits is read."""
    revision: str | None = None
    """Its commit; `patchclamp lock` writes it."""


class Draw(Model):
    """Words drawn for each stimulus, seeded by name."""

    source: Name
    """The word list or vocabulary."""
    n: int = Field(default=1, ge=1)
    """How many; the column is then a list, `{w[0]}`."""
    replace: bool = False
    """Whether a word may come twice in one stimulus."""
    share: tuple[Name, ...] = ()
    """Loops over which the same draw is kept, so that only they differ between stimuli."""


class WordList(Model):
    """Words from a file, one a line, or from the spec; short form: a list of words."""

    words: tuple[Scalar, ...] = ()
    """The words themselves."""
    path: str | None = None
    """A file with one word a line, relative to the spec's own folder."""
    keep: Literal["all", "one_token"] = "all"
    """`one_token` keeps what is one token after a space."""
    exclude: tuple[Name, ...] = ()
    """Vocabularies whose members are left out."""
    first: int | None = Field(default=None, ge=1)
    """Only so many from the top."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if bool(self.words) == (self.path is not None):
            raise ValueError("a word list needs either 'words' or 'path'")
        return self


def _expand_words(value: Any) -> Any:
    return {"words": value} if isinstance(value, list | tuple) else value


WordChoice = Annotated[
    WordList,
    BeforeValidator(_expand_words, json_schema_input_type=tuple[Scalar, ...] | WordList),
]


class Template(Rows):
    """Stimuli generated from loops, aligned vocabularies and drawn words."""

    kind: Literal["template"]
    vocabularies: dict[Name, tuple[Scalar, ...]] = {}
    """Ordered lists; in several, equal places mean the same thing."""
    words: dict[Name, WordChoice] = {}
    """Lists to draw from."""
    for_: dict[Name, tuple[Scalar, ...] | str] = Field(default={}, alias="for")
    """Loops by name: a list, or a range such as `0..7`; all combinations are made. A value that
    names a vocabulary stands for it: `{seq[i + 1]}`."""
    draw: dict[Name, Draw] = {}
    """Columns of drawn words."""


class Corrupt(Model):
    """Another set with its slots rearranged, its answer kept: same words, no sequence."""

    kind: Literal["corrupt"]
    of: StimuliRef | None = None
    """The set to corrupt; may be left out where there is one other."""
    slots: Literal["shuffle", "redraw"] = "shuffle"
    """`shuffle` reorders the slot values so that as few neighbours as possible stay neighbours;
    `redraw` draws each anew: from the vocabulary that it is of, or, where the set has none, from
    the values that the set has in its slots."""
    within: LabelName | None = None
    """For `redraw` without vocabularies, a label: values come from stimuli that share it."""
    reject_if: str | None = None
    """A condition under which a corruption is drawn again, over slots as they are now (`s4`) and
    were (`clean_s4`), other columns, and `tokens` and `clean_tokens`, the counts of both texts."""
    equal_length: Literal["error", "warn", "any"] = "error"
    """What happens where a corruption has another number of tokens."""

    @model_validator(mode="after")
    def _redrawn(self) -> Self:
        if self.within is not None and self.slots != "redraw":
            raise ValueError("'within' says what `slots: redraw` draws from; a shuffle draws none")
        return self


StimulusSet = Annotated[
    Builtin | Csv | Jsonl | Items | Hub | Template | Corrupt, Field(discriminator="kind")
]
Source = Builtin | Csv | Jsonl | Items | Hub | Template


def is_source(entry: Any) -> TypeGuard[Source]:
    """Return whether a stimulus set has rows of its own rather than deriving them."""
    return isinstance(entry, Rows)
