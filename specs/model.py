"""What may be asked of a model: which one, which revision, in what precision."""

from typing import Any, Literal

from pydantic import Field

from patchclamp.specs.fields import Model


class TokenizerChoice(Model):
    """How texts become tokens, where the tokenizer's own habit is not wanted."""

    bos: Literal["auto", "always", "never"] = "auto"
    """Whether a BOS token stands before every text; `auto` does what the tokenizer does. Either
    way positions count the tokens that are there, and two BOS tokens are an error."""
    chat: Literal["none", "user"] = "none"
    """`user` wraps every text as a user's turn in the model's chat template."""


class ModelChoice(Model):
    """The model of a spec; `owner/name@revision` is its short form."""

    id: str = Field(min_length=1)
    """A bundled model (`bundled:sequences`), a folder in Hugging Face format, or a hub id."""
    revision: str | None = None
    """Revision of a bundled model or a hub id; None is the default one (`main`)."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of weights and activations; float32, because rounding is science."""
    weights: Literal["trained", "random"] = "trained"
    """`random` builds an untrained twin from the config, seeded by the spec's seed."""
    tokenizer: TokenizerChoice = TokenizerChoice.model_construct()
    """How texts become tokens."""
    fold: tuple[Literal["layer_norm", "center_unembed", "center_writing_weights"], ...] = ()
    """Changes of the weights that leave the output's probabilities as they are, which published
    circuit studies measured under; none, because they move what is read inside the model."""


def expand_model(value: Any) -> Any:
    """Turn the short form `id@revision` into a mapping; anything else passes unchanged.

    >>> expand_model("bundled:sequences@step0")
    {'id': 'bundled:sequences', 'revision': 'step0'}
    """
    if not isinstance(value, str):
        return value
    name, at, revision = value.rpartition("@")
    return {"id": name, "revision": revision} if at else {"id": value}
