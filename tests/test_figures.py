"""What figures draw is what the datasets hold; every sort is drawn, on paper and on a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import drawable
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from patchclamp.engine.figures import Sketch, Undrawn, attempted, sketches
from patchclamp.engine.figures.axes import draw_panel
from patchclamp.engine.figures.facts import scale_of
from patchclamp.engine.figures.render import panels_for_page, to_png, to_svg
from patchclamp.engine.figures.sketch import (
    Axis,
    Band,
    Bars,
    Curve,
    Graph,
    Level,
    Matrix,
    Panel,
    Points,
    Strip,
)
from patchclamp.engine.figures.themes import DARK, LIGHT, PAGE, VARIABLES
from patchclamp.registry import ANALYSES, FIGURES
from patchclamp.registry.errors import StoreError
from patchclamp.registry.figures import OF_CAPTURES

DRAWN = {make.__name__: list(sketches(make())) for make in (*drawable.ALL, *drawable.CAPTURES)}


def drawn(analysis: str, name: str) -> Sketch:
    return next(one for one in DRAWN[analysis] if one.name.startswith(name))


def test_every_figure_is_named_by_an_analysis_and_drawn_of_one() -> None:
    named = {name for analysis in ANALYSES.values() for name in analysis.figures}
    assert named == set(FIGURES)
    assert named >= set(OF_CAPTURES)
    seen = {sketch.name.partition("-")[0] for found in DRAWN.values() for sketch in found}
    assert seen == set(FIGURES)


def test_layer_curves_hold_values_bands_and_marks() -> None:
    sketch = drawn("rsa", "layer_curves")
    assert [panel.title for panel in sketch.panels] == ["model rdm category", "model rdm length"]
    first, second = sketch.layers(Curve)
    assert first.y.tolist() == np.linspace(0, 0.5, 6).tolist()
    assert first.filled.tolist() == [False, True, True, True, True, True]
    assert not second.filled.any()
    null = drawable.rsa()["null"].sel(model_rdm="category")
    band = sketch.layers(Band)[0]
    assert band.low.tolist() == null.quantile(0.025, "permutation").to_numpy().tolist()
    assert sketch.panels[0].y.limits == sketch.panels[1].y.limits
    assert sketch.sentence == (
        "Spearman's rho of RDM and model RDM, at each layer. Grey band: the middle 95 % of what "
        "permuted labels give. Filled markers: p_max < 0.05."
    )
    assert dict(sketch.facts.items()) == {
        "dims": "model_rdm 2 × layer 6",
        "n": "30 stimuli in 10 groups",
        "test": "99 permutations of category within groups, one-sided (greater)",
        "correction": "maximum statistic over all places",
        "units": "none",
    }


def test_a_probe_stands_beside_its_controls_on_an_axis_from_0_to_1() -> None:
    sketch = drawn("probe", "layer_curves")
    accuracy, *controls = sketch.layers(Curve)
    assert accuracy.y.tolist() == [0.35, 0.5, 0.8, 0.9, 0.95, 0.9]
    assert accuracy.low.tolist() == (accuracy.y - 0.08).tolist()
    assert [(c.label, c.role, c.y[0]) for c in controls] == [
        ("majority", "control", 1 / 3),
        ("shuffled labels", "control", 0.3),
        ("random twin", "control", 0.55),
    ]
    assert sketch.panels[0].y.limits == (0.0, 1.05)


def test_rdms_are_ordered_by_label_and_stand_beside_their_models() -> None:
    sketch = drawn("rsa", "rdm_images")
    data = drawable.rsa()
    *rdms, category, _ = sketch.layers(Matrix)
    assert len(rdms) == 6
    assert len({rdm.scale for rdm in rdms}) == 1
    assert category.values[:10, :10].max() == 0
    assert category.values[:10, 10:].min() == 1
    assert [name for name in category.rows if name] == ["months", "numerals", "weekdays"]
    one = data["rdm"].sel(layer=5)
    months = np.flatnonzero(data["category"].to_numpy() == "months")
    assert rdms[5].values[0, 1] == float(one[months[0], months[1]])


def test_layers_with_layers_are_a_map() -> None:
    (matrix,) = drawn("second_order", "layer_pairs").layers(Matrix)
    assert (matrix.rows[0], matrix.columns[3]) == ("5", "3")
    assert matrix.values[-1, 0] == 1.0
    assert [sketch.name for sketch in DRAWN["second_order"]] == ["layer_pairs-similarity"]


def test_a_noise_ceiling_is_a_band() -> None:
    data = drawable.rsa()
    data = data.assign(
        {f"ceiling_{end}": ("layer", np.full(6, x)) for end, x in (("low", 0.6), ("high", 0.8))}
    )
    bands = next(sketches(data)).layers(Band)
    ceiling = next(band for band in bands if band.label == "noise ceiling")
    assert (ceiling.low[0], ceiling.high[0]) == (0.6, 0.8)


def test_a_dataset_with_heads_has_an_rdm_for_each() -> None:
    data = drawable.rsa()[["rdm"]].isel(layer=[0, 1]).expand_dims(head=[0, 1, 2])
    (sketch,) = sketches(data.assign_attrs(kind="rsa"))
    assert sketch.panels[1].title == "head 0, layer 1"


def test_a_figure_that_fails_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchclamp.engine.figures.maps.rdm_images", lambda data: 1 / 0)
    found = list(attempted(drawable.rsa()))
    assert [one.name for one in found] == ["layer_curves", "rdm_images", "stimulus_maps-mds"]
    assert found[1] == Undrawn("rdm_images", "ZeroDivisionError: division by zero")


def test_maps_put_the_last_layer_on_top_and_colours_even_around_0() -> None:
    sketch = drawn("ablation", "head_maps-effect")
    (matrix,) = sketch.layers(Matrix)
    assert matrix.rows == ("5", "4", "3", "2", "1", "0")
    assert matrix.values[3, 1] == -6.0
    assert matrix.text is not None
    assert matrix.text[3][1] == "−6.00"
    assert (matrix.scale.low, matrix.scale.high, matrix.scale.diverging) == (-6.0, 6.0, True)
    tokens = drawn("patching", "position_maps").layers(Matrix)[0]
    assert tokens.columns == ("0 <s>", "1 ·Mon", "2 ·Tue", "3 ·Wed", "4 ·Thu", "5 ·Fri", "6 ·$5",
                              "7 ⏎")  # fmt: skip
    assert (tokens.scale.low, tokens.scale.high) == (0.0, 1.0)


def test_effects_are_bars_in_order_solid_where_the_interval_excludes_0() -> None:
    (bars,) = drawn("ablation", "effect_bars").layers(Bars)
    assert bars.names[:2] == ("L2H1", "L4H5")
    assert bars.values[:2].tolist() == [-6.0, 2.5]
    assert bars.filled[:2].all()
    assert not bars.filled[2:].any()
    assert len(bars.names) == 15


def test_units_are_a_map_and_the_largest_are_bars() -> None:
    bars = drawn("contrast", "effect_bars").layers(Bars)[0]
    assert (bars.names[0], bars.values[0], bars.filled[0]) == ("L4U17", -2.0, True)
    assert not bars.filled[1:].any()
    sketch = drawn("contrast", "unit_maps")
    (matrix,) = sketch.layers(Matrix)
    assert (matrix.values.shape, matrix.values[1, 17]) == ((6, 40), -2.0)
    assert np.argwhere(matrix.marks).tolist() == [[1, 17]]
    assert sketch.facts.correction == "false discovery rate"


def test_methods_are_compared_from_best_to_worst_against_chance() -> None:
    sketch = drawn("selection", "method_comparison")
    (bars,), (chance,) = sketch.layers(Bars), sketch.layers(Level)
    assert bars.names == ("l1 probe", "discriminative", "welch t", "categorical", "random")
    assert bars.values.tolist() == [0.9, 0.81, 0.79, 0.62, 0.33]
    assert bars.high.tolist() == pytest.approx([0.95, 0.86, 0.84, 0.67, 0.38])
    assert (chance.label, chance.value) == ("base rate", 1 / 3)


def test_methods_at_several_layers_have_a_panel_for_each() -> None:
    sketch = drawn("methods_by_layer", "method_comparison")
    assert [panel.title for panel in sketch.panels] == ["layer 0", "layer 1"]
    first, second = sketch.layers(Bars)
    assert (first.names[0], second.names[0]) == ("l1 probe", "discriminative")
    assert first.values.tolist() == second.values.tolist() == [0.9, 0.81, 0.79, 0.62, 0.33]
    assert ", by method, the best on top, at all places." in sketch.sentence


def test_a_test_marks_the_variable_that_it_is_of() -> None:
    data = drawable.probe()
    data["balanced_accuracy"] = data["accuracy"].assign_attrs(long_name="mean over classes")
    data["p_max"].attrs["of"] = "balanced_accuracy"
    (sketch,) = sketches(data)
    assert sketch.layers(Curve)[0].filled is None
    assert "Filled markers of balanced accuracy: p_max < 0.05." in sketch.sentence
    assert sketch.facts.correction == "maximum statistic over all places"


def test_numbers_without_layers_are_curves_over_the_steps_of_training() -> None:
    sketch = drawn("steps", "sweep_panels")
    assert [text for _, text in sketch.panels[0].x.ticks] == ["step0", "step80", "main"]
    first, second = sketch.layers(Curve)
    assert (first.label, first.y.tolist()) == ("seed 0", [0.8, 0.9, 0.5])
    assert second.high.tolist() == pytest.approx([0.8, 1.1, 0.7])


def test_paths_nodes_and_classes() -> None:
    (matrix,) = drawn("paths", "path_maps").layers(Matrix)
    assert (matrix.rows, matrix.columns) == (("L0H1", "L0H2", "MLP0"), ("L1H1.k", "L1H1.v"))
    assert matrix.values.tolist() == [[0, 0], [-0.4, 0], [0, 0]]
    assert drawn("paths", "effect_bars").layers(Bars)[0].names[0] == "L0H2 → L1H1.k"
    (heads,) = drawn("attribution", "head_maps-score").layers(Matrix)
    score = drawable.attribution()["score"]
    assert heads.values.shape == (3, 8)
    assert heads.values[-1].tolist() == score[:8].values.tolist()
    assert np.isnan(heads.values[0, 4:]).all()
    bars, level = (drawn("choice", "class_bars").layers(one)[0] for one in (Bars, Level))
    assert (bars.names, bars.values.tolist(), level.value) == (("art", "law"), [0.5, 0.7], 0.6)
    assert bars.low.tolist() == [0.4, 0.6]


def test_interventions_stand_beside_all_draws_of_their_controls() -> None:
    sketch = drawn("steered", "dose_curves")
    assert [panel.title for panel in sketch.panels] == ["days", "random_direction"]
    band, other = sketch.layers(Band)
    assert (band.label, band.low.tolist(), band.high.tolist()) == (
        "random direction", [0.0, 3.0], [2.0, 5.0],
    )  # fmt: skip
    assert np.isnan(other.low[0])  # drawn as a line, since an area has no width there
    assert other.high[1] == 11
    assert "Grey: all draws of each control." in sketch.sentence
    text = to_svg(sketch)
    ElementTree.fromstring(text)


def test_captures_are_drawn_text_by_text() -> None:
    sketch = drawn("captured", "token_strips-norm")
    first, second = sketch.layers(Strip)
    assert [panel.title for panel in sketch.panels] == ["layer 0", "layer 1"]
    # The third text is too long for a line, and goes on in one without a name.
    assert first.names == ("s0", "s1", "s2", "")
    assert [len(line) for line in first.tokens] == [8, 5, 7, 1]
    assert np.concatenate(second.values).tolist() == [*range(8, 16), *range(24, 29), *range(40, 48)]
    assert sketch.sentence == "Norm, token by token: 3 of 3 texts. Grey tokens have no value."
    assert sketch.facts.n == "3 stimuli"


def test_attention_of_a_text_is_that_of_its_own_tokens() -> None:
    sketch = drawn("maps", "attention_maps")
    previous, _ = sketch.layers(Matrix)
    expected = drawable.attention()["pattern"].isel(layer=0, head=0).to_numpy()[:6, :6]
    np.testing.assert_array_equal(np.nan_to_num(previous.values), expected)
    assert previous.rows[:3] == previous.columns[:3] == ("0 <s>", "1 ·Mon", "2")
    assert "Attention in the text 's0', the first of 2: each row" in sketch.sentence


def test_keys_that_are_counted_from_another_token_are_no_queries() -> None:
    data = drawable.maps()
    assert drawn("maps", "attention_maps").sentence.endswith("and sums to 1.")
    data["query"].attrs["anchor"], data["key"].attrs["anchor"] = "first", "first after BOS"
    few = data.isel(key=slice(1, 6))
    (sketch,) = sketches(few)
    panel = sketch.layers(Matrix)[0]
    assert panel.rows[:2] == ("0 <s>", "1 ·Mon")
    assert panel.columns == ("1", "2", "3", "4", "5")
    assert not np.isnan(panel.values).any()  # none of them is known to be ahead
    assert sketch.sentence.endswith("each row is where one token looks.")


def test_an_encoder_looks_ahead() -> None:
    data = drawable.maps().isel(stimulus=1)
    data["activation"] = xr.full_like(data["activation"], 1 / 8)
    (sketch,) = sketches(data)
    assert (sketch.layers(Matrix)[0].values == 1 / 8).all()


def test_a_smaller_model_has_gaps_in_a_sweep() -> None:
    sketch = drawn("norms", "sweep_panels")
    small, large = sketch.layers(Matrix)
    assert small.columns == ("step0", "step80", "step640", "step1000", "step2500", "step5000",
                             "main")  # fmt: skip
    assert np.isnan(small.values[:2]).all()
    assert small.scale == large.scale
    assert large.values[0].tolist() == [6, 12, 18, 24, 30, 36, 42]


def test_circuits_attention_tokens_and_the_rest() -> None:
    pruned, known = drawn("circuit", "circuit_graph").layers(Graph)
    assert {node.name for node in pruned.nodes} == {"embed", "L0H1", "L0H5", "MLP0", "L3H2",
                                                   "MLP3", "L5H7", "logits"}  # fmt: skip
    assert (pruned.nodes[0].name, pruned.nodes[-1].name) == ("embed", "logits")
    # Nodes that only an edge names are there too; of two edges to one head the larger is drawn.
    assert {node.name for node in known.nodes} == {node.name for node in pruned.nodes}
    assert known.edges[:3] == (
        ("L5H7", "logits", 3.0), ("L3H2", "L5H7", 2.0), ("L0H5", "L3H2", 1.2),
    )  # fmt: skip
    panels = drawn("circuit", "circuit_bars").panels
    assert [panel.title for panel in panels] == ["faithfulness", "edges", "by size"]
    assert panels[1].layers[0].values.tolist() == [0.7, 0.3]
    bars, random, curve = (drawn("circuit", "circuit_bars").layers(one)[0]
                           for one in (Bars, Points, Curve))  # fmt: skip
    assert (bars.names, bars.values.tolist()) == (("pruned", "known"), [0.8, 0.4])
    assert random.y.tolist() == [0.0] * 12 + [1.0] * 12
    assert (curve.x.tolist(), curve.y.tolist()) == ([0.0, 0.25, 0.5, 1.0], [0.0, 0.3, 0.9, 1.0])
    first = drawn("attention", "attention_maps").layers(Matrix)[0]
    assert np.isnan(first.values[0, 1:]).all()
    assert np.nansum(first.values, axis=1).tolist() == pytest.approx([1.0] * 8)
    strip = drawn("sae", "token_strips").layers(Strip)[0]
    assert strip.tokens[1] == ("<s>", "·Mon", "·Tue", "·Wed", "·Thu")
    assert [len(values) for values in strip.values] == [8, 5, 8, 8]
    grid = drawn("lens", "token_grid").layers(Matrix)[0]
    assert grid.text is not None
    assert grid.text[0][1] == "·Mon"
    points = drawn("attribution", "estimates").layers(Points)[0]
    assert points.names[0] == "MLP5"
    answers = drawn("choice", "calibration").layers(Curve)[1]
    assert answers.x.tolist() == [0.35, 0.55, 0.9]
    days, control = drawn("steering", "dose_curves").layers(Curve)
    assert (days.label, days.y.tolist()) == ("days", [-3.2, -1.6, 0.0, 1.6, 3.2])
    assert control.label == "random_direction"
    months = drawn("rsa", "stimulus_maps").panels[5].layers[0]
    assert months.label == "months"
    assert len(months.x) == 10


@pytest.mark.parametrize(("values", "unit", "expected"), [
    ([-1.0, 3.0], "", (-3.0, 3.0, True)),
    ([0.2, 0.6], "1", (0.0, 1.0, False)),
    ([0.2, 1.6], "1", (0.0, 1.6, False)),
    ([2.0, 10.0], "nat", (0.0, 10.0, False)),
    ([9.0, 10.0], "nat", (9.0, 10.0, False)),
    ([-3.0, -1.0], "logit", (-3.0, 0.0, False)),
    ([np.nan, np.nan], "", (0.0, 1.0, False)),
    ([0.0, 0.0], "", (0.0, 1.0, False)),
])  # fmt: skip
def test_scales(values: list[float], unit: str, expected: tuple[float, float, bool]) -> None:
    scale = scale_of(np.array(values), "x", unit=unit)
    assert (scale.low, scale.high, scale.diverging) == expected


@pytest.mark.parametrize("analysis", DRAWN)
def test_every_figure_is_drawn(analysis: str) -> None:
    for sketch in DRAWN[analysis]:
        text = to_svg(sketch)
        ElementTree.fromstring(text)
        assert LIGHT.ink in text


def test_a_figure_is_drawn_the_same_each_time() -> None:
    sketch = DRAWN["selection"][0]
    assert to_svg(sketch) == to_svg(sketch)
    assert to_png(sketch) == to_png(sketch) != to_png(sketch, DARK)
    assert to_png(sketch).startswith(b"\x89PNG")


@pytest.mark.parametrize("analysis", ["probe", "patching", "circuit"])
def test_a_figure_on_a_page_takes_its_colours_from_it(analysis: str) -> None:
    for sketch in DRAWN[analysis]:
        panels = panels_for_page(sketch)
        assert len(panels) == len(sketch.panels)
        for text in panels:
            ElementTree.fromstring(text)
            assert "var(--ink)" in text
            assert not re.search("|".join(VARIABLES), text)
    assert len(VARIABLES) == 5 + len(PAGE.series)
    patching = panels_for_page(drawn("patching", "position_maps"))[0]
    assert "6 ·$5" in patching  # a dollar is no formula


def test_saving(tmp_path: Path) -> None:
    sketch = DRAWN["probe"][0]
    assert sketch.save(tmp_path / "deep" / "a.svg").read_text(encoding="utf-8").startswith("<svg")
    assert sketch.save(tmp_path / "a.png").stat().st_size > 1000
    assert sketch._repr_svg_().startswith("<svg")
    with pytest.raises(StoreError, match=r"figures are saved as \.png or \.svg; got .*a\.pdf"):
        sketch.save(tmp_path / "a.pdf")


def test_controls_differ_in_form_and_0_is_in_view() -> None:
    figure = Figure()
    x = np.arange(3.0)
    curves = [Curve(str(n), x, x + 5 + n, role="control" if n else "data") for n in range(6)]
    axes = figure.add_subplot()
    draw_panel(axes, Panel("", tuple(curves), y=Axis(zero=True)), LIGHT)
    lines = [line for line in axes.get_lines() if line.get_label().isdigit()]
    forms = {(str(line.get_color()), line._unscaled_dash_pattern[1]) for line in lines[1:]}
    assert len(forms) == 5
    low, high = axes.get_ylim()
    assert low < 0 < 12 <= high


@pytest.mark.parametrize("make", [*drawable.ALL, *drawable.CAPTURES])
def test_what_lacks_the_variables_has_no_figures(make: Callable[[], xr.Dataset]) -> None:
    data = make()
    bare = data.drop_vars(list(data.data_vars))
    assert list(sketches(bare)) == []


def test_an_analysis_that_names_no_figure_gets_those_of_its_numbers() -> None:
    data = drawable.probe().assign_attrs(kind="mine")
    assert [sketch.name for sketch in sketches(data)] == ["layer_curves"]
