"""Which row of the architecture table describes a model, by what its config says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patchclamp.registry.architectures import ARCHITECTURES
from patchclamp.registry.locations import Architecture, gives

_HEADLESS = "its weights lack the head that predicts hidden tokens"


def architecture_of(config: Any) -> Architecture | None:
    """Return the row that describes a model's config, or None if no row does.

    Rows of installed plugins are looked for where no other fits. An encoder whose weights have no
    head has no logits.
    """
    row = _row_of(config)
    if row is None:
        from patchclamp.registry.plugins import use_packages

        use_packages()
        row = _row_of(config)
    if row is not None and config.model_type == "opt":
        row = _opt_of(row, config)
    saved = str(getattr(config, "architectures", None) or "")
    if row is not None and row.encoder and "MaskedLM" not in saved and "PreTraining" not in saved:
        bare = row.without(dict.fromkeys(("logits", "logprobs"), _HEADLESS))
        return replace(bare, beside=(*row.beside, *(f"{path}." for path in row.unembed)))
    return row


def differs(config: Any) -> str:
    """Return what a config says that rows of its type are not for; nothing if there is none."""
    of_type = [row for row in ARCHITECTURES.values() if _of_type(row, config)]
    other = dict.fromkeys(key for row in of_type for key in _unlike(row, config))
    return ", ".join(f"{key}: {str(getattr(config, key, None)).lower()}" for key in other)


_SEES: dict[bool, dict[str, Any]] = {
    True: {"is_decoder": False},
    False: {"use_bidirectional_attention": False, "is_causal": True},
}
"""What a config says, if anything, where tokens see what they see in a row: an encoder's, or
those before them. Whatever is saved of a pass relies on it."""


def _row_of(config: Any) -> Architecture | None:
    fit = (row for row in ARCHITECTURES.values() if _of_type(row, config))
    return next((row for row in fit if not _unlike(row, config)), None)


def _of_type(row: Architecture, config: Any) -> bool:
    return bool(config.model_type == (row.model_type or row.name))


def _unlike(row: Architecture, config: Any) -> list[str]:
    """Return the members of a config that are others than in a row."""
    sees = _SEES[row.encoder].items()
    return [
        *(key for key, value in row.when.items() if getattr(config, key, None) != value),
        *(key for key, value in sees if getattr(config, key, None) not in (value, None)),
    ]


def _opt_of(row: Architecture, config: Any) -> Architecture:
    """Return OPT's row with what stands at its ends: projections where sizes differ, and a norm."""
    projected = config.word_embed_proj_dim != config.hidden_size
    normed = config.do_layer_norm_before and not config._remove_final_layer_norm
    behind = {"final_layer_norm": normed, "project_out": projected}
    ends = [f"model.decoder.{name}" for name, there in behind.items() if there]
    embed = gives(f"model.decoder.{'project_in' if projected else 'embed_tokens'}")
    return replace(row, places={**row.places, "embed": embed}, unembed=(*ends, "lm_head"))
