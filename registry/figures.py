"""The figure table: what can be drawn of a labelled dataset."""

from __future__ import annotations

from dataclasses import dataclass

from patchclamp.registry.table import Table


@dataclass(frozen=True)
class Figure:
    """A kind of figure: `draw(dataset)` returns sketches, none where it lacks the variables.

    It shows what an analysis computed and computes nothing itself.
    """

    name: str
    summary: str
    draw: str


_ENGINE = "patchclamp.engine.figures"

FIGURES: Table[Figure] = Table(
    "figure",
    [
        Figure(
            "layer_curves",
            "numbers by layer, with intervals, what permuted labels give, and controls",
            f"{_ENGINE}.curves:layer_curves",
        ),
        Figure("head_maps", "numbers by layer and head", f"{_ENGINE}.maps:head_maps"),
        Figure("position_maps", "numbers by layer and token", f"{_ENGINE}.maps:position_maps"),
        Figure("path_maps", "numbers by sender and receiver", f"{_ENGINE}.maps:path_maps"),
        Figure("unit_maps", "a number by layer and unit", f"{_ENGINE}.maps:unit_maps"),
        Figure("layer_pairs", "numbers of layers with layers", f"{_ENGINE}.maps:layer_pairs"),
        Figure("rdm_images", "RDMs beside model RDMs", f"{_ENGINE}.maps:rdm_images"),
        Figure(
            "sweep_panels",
            "numbers by checkpoint, and by layer, for each model",
            f"{_ENGINE}.sweeps:sweep_panels",
        ),
        Figure("stimulus_maps", "stimuli in a plane", f"{_ENGINE}.points:stimulus_maps"),
        Figure("estimates", "estimated against exact effects", f"{_ENGINE}.points:estimates"),
        Figure(
            "calibration",
            "how often confident answers are right",
            f"{_ENGINE}.points:calibration_curve",
        ),
        Figure("dose_curves", "outcomes by dose", f"{_ENGINE}.points:dose_curves"),
        Figure("effect_bars", "the largest effects", f"{_ENGINE}.bars:effect_bars"),
        Figure(
            "method_comparison",
            "methods compared on held-out data",
            f"{_ENGINE}.bars:method_comparison",
        ),
        Figure("class_bars", "numbers by class of stimuli", f"{_ENGINE}.bars:class_bars"),
        Figure("share_bars", "how often each option is chosen", f"{_ENGINE}.bars:share_bars"),
        Figure("token_strips", "texts coloured token by token", f"{_ENGINE}.tokens:token_strips"),
        Figure(
            "attention_maps", "attention from token to token", f"{_ENGINE}.tokens:attention_maps"
        ),
        Figure("token_grid", "what each layer would say next", f"{_ENGINE}.tokens:token_grid"),
        Figure("circuit_bars", "circuits beside random ones", f"{_ENGINE}.bars:circuit_bars"),
        Figure("circuit_graph", "nodes and edges of circuits", f"{_ENGINE}.graphs:circuit_graph"),
    ],
)

OF_CAPTURES = ("attention_maps", "token_strips")
"""What is drawn of a capture, where it has what they need."""
