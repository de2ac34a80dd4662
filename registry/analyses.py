"""The analysis table: what can be computed from captures and readings."""

from __future__ import annotations

from typing import NamedTuple

from patchclamp.registry.table import Table


class Analysis(NamedTuple):
    """An analysis kind: the model of its parameters and the functions that do it.

    `readings(entry, shape)` says what must be measured, by the part it plays;
    `analyse(entry, data, context)` turns the labelled datasets of these parts into a labelled
    result. An adaptive analysis yields further readings and is sent their datasets.
    `across(entry, data, seeds)` adds to the joined result of all cells of a matrix. `headline`
    names the result variables that a summary table shows, `figures` what a report draws of it,
    where the result has what they need. Without functions a kind is not implemented yet: specs
    that use it are valid and are not run.
    """

    name: str
    summary: str
    spec: str
    readings: str | None = None
    analyse: str | None = None
    headline: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    across: str | None = None

    @property
    def implemented(self) -> bool:
        """Whether the engine can run it."""
        return self.analyse is not None


def _done(
    name: str,
    summary: str,
    spec: str,
    headline: tuple[str, ...],
    figures: tuple[str, ...] = (),
    across: str | None = None,
) -> Analysis:
    """An analysis of ours, with its functions in the module of its name."""
    module = f"patchclamp.analyses.{name}"
    functions = (f"{module}:readings", f"{module}:analyse")
    return Analysis(name, summary, spec, *functions, headline, figures, across)


_REPRESENTATION = "patchclamp.specs.analyses_representation"
_CAUSAL = "patchclamp.specs.analyses_causal"
_CIRCUITS = "patchclamp.specs.analyses_circuits"
_DESCRIPTIVE = "patchclamp.specs.analyses_descriptive"

ANALYSES: Table[Analysis] = Table(
    "analysis",
    [
        _done(
            "rsa",
            "representational similarity: model RDMs and contrasts, with label permutation",
            "patchclamp.specs.analyses_rsa:Rsa",
            ("similarity", "contrast", "t", "p", "p_max"),
            figures=(
                "layer_curves",
                "layer_pairs",
                "head_maps",
                "position_maps",
                "rdm_images",
                "stimulus_maps",
                "sweep_panels",
            ),
            across="patchclamp.analyses.rsa_across:across",
        ),
        _done(
            "probe",
            "cross-validated linear read-out of a label, with controls",
            f"{_REPRESENTATION}:Probe",
            ("accuracy", "balanced_accuracy", "auroc", "p", "p_max"),
            figures=("layer_curves", "head_maps", "position_maps", "sweep_panels"),
        ),
        _done(
            "contrast",
            "univariate maps: Welch t and Cohen's d per unit, factorial effects",
            f"{_REPRESENTATION}:Contrast",
            ("d", "d_low", "d_high", "t", "p", "p_fdr", "p_max"),
            figures=("effect_bars", "unit_maps", "position_maps"),
        ),
        _done(
            "selection",
            "ways of choosing units, compared on held-out data",
            f"{_REPRESENTATION}:Selection",
            ("balanced_accuracy", "accuracy", "auroc", "stability", "p", "p_max"),
            figures=("method_comparison",),
        ),
        _done(
            "ablation",
            "effect of removing each unit on a metric, per stimulus",
            f"{_CAUSAL}:Ablation",
            ("effect", "share"),
            figures=("head_maps", "effect_bars", "layer_curves", "sweep_panels"),
        ),
        _done(
            "patching",
            "activation patching over layers, positions and heads; path patching",
            f"{_CAUSAL}:Patching",
            ("recovered", "effect"),
            figures=(
                "head_maps",
                "position_maps",
                "path_maps",
                "layer_curves",
                "effect_bars",
                "sweep_panels",
            ),
        ),
        _done(
            "attribution",
            "gradient estimates of patching effects, at nodes or edges, verified by patching",
            f"{_CIRCUITS}:Attribution",
            ("score", "exact"),
            figures=("head_maps", "path_maps", "effect_bars", "estimates"),
        ),
        _done(
            "circuit",
            "pruning to a circuit, its evaluation, transfer and random controls",
            f"{_CIRCUITS}:Circuit",
            ("faithfulness", "random_faithfulness", "size"),
            figures=("circuit_bars", "circuit_graph", "effect_bars"),
        ),
        _done(
            "steering",
            "generation or metrics under interventions, with doses and controls",
            "patchclamp.specs.analyses_steering:Steering",
            ("effect", "p"),
            figures=("dose_curves",),
        ),
        Analysis(
            "attention",
            "attention between named positions, head scores, OV scores",
            f"{_DESCRIPTIVE}:Attention",
            figures=("attention_maps", "head_maps", "effect_bars"),
        ),
        Analysis(
            "lens",
            "logit lens and direct logit attribution",
            f"{_DESCRIPTIVE}:Lens",
            figures=("layer_curves", "token_grid", "position_maps"),
        ),
        Analysis(
            "norms",
            "maps of activation and gradient size, massive activations, covariance",
            f"{_DESCRIPTIVE}:Norms",
            figures=("layer_curves", "position_maps", "sweep_panels"),
        ),
        Analysis(
            "counterfactual",
            "what is specific to a set after the common mean is removed",
            f"{_DESCRIPTIVE}:Counterfactual",
            figures=("position_maps", "layer_curves"),
        ),
        _done(
            "choice",
            "multiple choice: accuracy, answer mass, option bias, calibration",
            f"{_DESCRIPTIVE}:Choice",
            ("accuracy", "base_rate", "top_accuracy", "answer_mass"),
            figures=("class_bars", "share_bars", "calibration", "sweep_panels"),
        ),
        Analysis(
            "sae",
            "train or load a sparse autoencoder; feature cards and corpus scans",
            f"{_DESCRIPTIVE}:Sae",
            figures=("token_strips", "layer_curves"),
        ),
    ],
)
