"""Labelled datasets with the schema of each analysis, and effects planted where a figure shows."""

from __future__ import annotations

import numpy as np
import xarray as xr

LAYERS, HEADS, STIMULI = 6, 8, 30
TOKENS = ["<s>", " Mon", " Tue", " Wed", " Thu", " Fri", " $5", "\n"]
TESTED = {"n_stimuli": STIMULI, "n_groups": 10, "permuted": "category", "n_permutations": 99,
          "permutation": "within groups", "tail": "greater"}  # fmt: skip


def about(name: str, units: str = "1", **more: object) -> dict[str, object]:
    return {"units": units, "long_name": name, **more}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def rsa() -> xr.Dataset:
    value = np.stack([np.linspace(0, 0.5, LAYERS), np.full(LAYERS, 0.02)])
    null = 0.03 * rng().standard_normal((99, 2, LAYERS))
    order = rng().permutation(STIMULI)
    classes = np.repeat(["months", "numerals", "weekdays"], STIMULI // 3)[order]
    codes = np.unique(classes, return_inverse=True)[1]
    patterns = rng().standard_normal((LAYERS, STIMULI, 20))
    patterns += np.arange(LAYERS)[:, None, None] * 0.6 * (codes[:, None] == np.arange(20) % 3)
    rdm = np.stack([1 - np.corrcoef(one) for one in patterns])
    plane = rng().standard_normal((LAYERS, STIMULI, 2))
    plane += np.arange(LAYERS)[:, None, None] * np.array([[1, 0], [-1, 0], [0, 1]])[codes]
    model = np.stack([codes[:, None] != codes, abs(order[:, None] - order)]).astype(float)
    places = ("model_rdm", "layer")
    return xr.Dataset(
        {
            "similarity": (places, value, about("Spearman's rho of RDM and model RDM")),
            "p_max": (places, np.where(value > 0.08, 0.01, 0.6), about("p")),
            "null": (("permutation", *places), null, about("null")),
            "rdm": (("layer", "stimulus", "other"), rdm, about("correlation distance")),
            "model_rdms": (("model_rdm", "stimulus", "other"), model, about("model RDM")),
            "mds": (("layer", "stimulus", "component"), plane, about("classical MDS of the RDM")),
        },
        coords={
            "model_rdm": ["category", "length"], "layer": np.arange(LAYERS),
            "permutation": np.arange(99), "stimulus": np.arange(STIMULI),
            "other": np.arange(STIMULI), "category": ("stimulus", classes), "component": [1, 2],
        },
        attrs={"kind": "rsa", **TESTED},
    )  # fmt: skip


def probe() -> xr.Dataset:
    accuracy = np.array([0.35, 0.5, 0.8, 0.9, 0.95, 0.9])
    controls = np.stack([np.full(LAYERS, 1 / 3), np.full(LAYERS, 0.3), np.full(LAYERS, 0.55)])
    return xr.Dataset(
        {
            "accuracy": ("layer", accuracy, about("share of held-out stimuli predicted correctly")),
            "accuracy_low": ("layer", accuracy - 0.08, about("lower bound")),
            "accuracy_high": ("layer", accuracy + 0.04, about("upper bound")),
            "control_accuracy": (("control", "layer"), controls, about("by a control")),
            "p_max": ("layer", np.where(accuracy > 0.4, 0.01, 0.3), about("p")),
            "null_accuracy": (("permutation", "layer"),
                              0.33 + 0.04 * rng().standard_normal((99, LAYERS)), about("null")),
        },
        coords={"layer": np.arange(LAYERS), "permutation": np.arange(99),
                "control": ["majority", "shuffled_labels", "random_twin"]},
        attrs={"kind": "probe", **TESTED, "n_classes": 3, "n_folds": 5},
    )  # fmt: skip


def selection() -> xr.Dataset:
    accuracy = np.array([0.62, 0.81, 0.79, 0.9, 0.33])
    return xr.Dataset(
        {
            "accuracy": (
                "chosen_by",
                accuracy,
                about("accuracy of the chosen units"),
            ),
            "accuracy_low": ("chosen_by", accuracy - 0.07, about("lower bound")),
            "accuracy_high": ("chosen_by", accuracy + 0.05, about("upper bound")),
            "base_rate": ((), 1 / 3, about("share of the larger class")),
        },
        coords={"chosen_by": ["categorical", "discriminative", "welch_t", "l1_probe", "random"]},
        attrs={"kind": "selection", "n_stimuli": STIMULI, "n_folds": 5},
    )


def ablation() -> xr.Dataset:
    effect = 0.2 * rng().standard_normal((LAYERS, HEADS))
    effect[2, 1], effect[4, 5] = -6.0, 2.5
    dims = ("layer", "head")
    return xr.Dataset(
        {
            "effect": (dims, effect, about("mean change of logit_diff", "logit")),
            "effect_low": (dims, effect - 0.5, about("lower bound", "logit")),
            "effect_high": (dims, effect + 0.5, about("upper bound", "logit")),
            "share": (dims, 1 + effect / 8, about("share of the clean mean that is left")),
        },
        coords={"layer": np.arange(LAYERS), "head": np.arange(HEADS)},
        attrs={"kind": "ablation", "n_stimuli": STIMULI, "n_groups": 10,
               "interval": "95 % percentile bootstrap over groups, 2000 draws"},
    )  # fmt: skip


def patching() -> xr.Dataset:
    effect = np.zeros((LAYERS, len(TOKENS)))
    effect[:3, 5], effect[3:, 7] = 1.0, 0.9
    return xr.Dataset(
        {"effect": (("layer", "position"), effect, about("share of the metric that is restored"))},
        coords={"layer": np.arange(LAYERS), "position": np.arange(len(TOKENS)),
                "token_text": ("position", TOKENS)},
        attrs={"kind": "patching", "n_stimuli": STIMULI},
    )  # fmt: skip


def attribution() -> xr.Dataset:
    exact = np.append(rng().standard_normal(20), 4.0)
    return xr.Dataset(
        {
            "exact": ("node", exact, about("effect of patching", "logit")),
            "score": ("node", 0.9 * exact + 0.1, about("estimated effect", "logit")),
        },
        coords={"node": [f"L{i // 8}H{i % 8}" for i in range(20)] + ["MLP5"]},
        attrs={"kind": "attribution", "n_stimuli": STIMULI},
    )


def circuit() -> xr.Dataset:
    nodes = ["embed", "L0H1", "L0H5", "MLP0", "L3H2", "MLP3", "L5H7", "L5H0"]
    member = np.array([[1, 1, 1, 1, 1, 1, 1, 0], [1, 0, 1, 0, 1, 0, 1, 0]], dtype="i1")
    receivers = ["L0H1", "L0H5", "L3H2.q", "L3H2.k", "L5H7.v", "MLP3", "logits"]
    edge = np.full((2, len(nodes), len(receivers)), np.nan)
    for start, end, weight in [("embed", "L0H1", 0.3), ("embed", "L0H5", 0.8),
                               ("L0H5", "L3H2.q", 0.5), ("L0H5", "L3H2.k", 1.2),
                               ("L0H1", "L3H2.q", -0.4), ("L3H2", "L5H7.v", 2.0),
                               ("MLP0", "MLP3", 0.2), ("L5H7", "logits", 3.0)]:  # fmt: skip
        edge[:, nodes.index(start), receivers.index(end)] = weight
    effect = np.tile(np.array([0.0, 0.5, 1.2, 0.2, 2.0, 0.1, 3.0, 0.0]), (2, 1))
    random = 0.1 * rng().random((2, 12))
    return xr.Dataset(
        {
            "faithfulness": ("circuit", [0.8, 0.4], about("share of the metric that is left")),
            "random_faithfulness": (("circuit", "draw"), random, about("of random circuits")),
            "curve": ("kept", [0.0, 0.3, 0.9, 1.0], about("faithfulness by size")),
            "member": (("circuit", "node"), member, about("1 where the node is in the circuit")),
            "effect": (("circuit", "node"), effect, about("loss without the node", "logit")),
            "edge": (("circuit", "sender", "receiver"), edge, about("weight", "logit")),
            "edge_faithfulness": ("circuit", [0.7, 0.3], about("with only its edges")),
            "random_edge_faithfulness": (("circuit", "draw"), random, about("of random edges")),
        },
        coords={
            "circuit": ["pruned", "known"],
            "node": nodes,
            "sender": nodes,
            "receiver": receivers,
            "draw": np.arange(12),
            "kept": [0.0, 0.25, 0.5, 1.0],
        },
        attrs={"kind": "circuit", "n_stimuli": STIMULI},
    )


def attention() -> xr.Dataset:
    n = len(TOKENS)
    scores = rng().standard_normal((2, 2, n, n))
    scores[:, 0] += 5 * np.eye(n, k=-1)
    scores[:, 1, :, 0] += 4
    scores[..., np.triu(np.ones((n, n), dtype=bool), 1)] = -np.inf
    pattern = np.exp(scores - scores.max(-1, keepdims=True))
    pattern /= pattern.sum(-1, keepdims=True)
    dims = ("layer", "head", "query", "key")
    return xr.Dataset(
        {
            "pattern": (dims, pattern, about("mean attention")),
            "entropy": (("layer", "head"), pattern[..., -1, :].std(-1), about("entropy", "nat")),
        },
        coords={"layer": [0, 4], "head": [2, 7], "query": np.arange(n), "key": np.arange(n)},
        attrs={"kind": "attention", "n_stimuli": STIMULI},
    )


def lens() -> xr.Dataset:
    token = np.array(
        [[f" {word}" for word in ["the", "Mon", "day", "of", "Wed", "Thu", "Fri", "Sat"]]] * LAYERS
    )
    probability = np.linspace(0.1, 0.95, LAYERS * len(TOKENS)).reshape(LAYERS, -1)
    dims = ("layer", "position")
    return xr.Dataset(
        {
            "top_token": (dims, token, about("most probable token", "text")),
            "top_probability": (dims, probability, about("its probability")),
        },
        coords={"layer": np.arange(LAYERS), "position": np.arange(len(TOKENS)),
                "token_text": ("position", TOKENS)},
        attrs={"kind": "lens"},
    )  # fmt: skip


def norms() -> xr.Dataset:
    steps = ["step0", "step80", "step640", "step1000", "step2500", "step5000", "main"]
    values = np.cumsum(np.ones((2, len(steps), LAYERS)), axis=2) * np.arange(1, 8)[:, None]
    values[0, :, 4:] = np.nan  # the smaller model has four layers
    return xr.Dataset(
        {"profile": (("model", "revision", "layer"), values, about("norm by layer", "activation"))},
        coords={"model": ["70m", "410m"], "revision": steps, "layer": np.arange(LAYERS)},
        attrs={"kind": "norms", "n_stimuli": STIMULI},
    )


def choice() -> xr.Dataset:
    return xr.Dataset(
        {
            "accuracy": ((), 0.6, about("share of right answers")),
            "accuracy_by": ("class", [0.5, 0.7], about("share of right answers")),
            "accuracy_by_low": ("class", [0.4, 0.6], about("lower bound")),
            "accuracy_by_high": ("class", [0.6, 0.8], about("upper bound")),
            "chosen_share": ("option", [0.5, 0.2, 0.2, 0.1], about("share that is chosen")),
            "right_share": ("option", [0.25, 0.25, 0.3, 0.2], about("share that is right")),
            "option_accuracy": ("option", [0.8, 0.4, 0.4, 0.3], about("accuracy where right")),
            "bin_confidence": ("bin", [np.nan, 0.35, 0.55, 0.9], about("mean confidence")),
            "bin_accuracy": ("bin", [np.nan, 0.3, 0.4, 0.7], about("share right")),
        },
        coords={"option": ["A", "B", "C", "D"], "bin": np.arange(4), "class": ["art", "law"]},
        attrs={"kind": "choice", "n_stimuli": STIMULI, "by": "topic"},
    )


def sae() -> xr.Dataset:
    values = np.abs(rng().standard_normal((2, 4, len(TOKENS)))) * (np.arange(len(TOKENS)) == 3)
    texts = np.array([[TOKENS, TOKENS[:5] + [""] * 3, TOKENS, TOKENS]] * 2)
    return xr.Dataset(
        {"feature_activation": (("feature", "rank", "position"), values + 0.05,
                                about("activation of the feature", "activation"))},
        coords={"feature": [12, 907], "rank": np.arange(4), "position": np.arange(len(TOKENS)),
                "token_text": (("feature", "rank", "position"), texts)},
        attrs={"kind": "sae"},
    )  # fmt: skip


def steering() -> xr.Dataset:
    doses = np.array([-4.0, -2.0, 0.0, 2.0, 4.0])
    value = np.stack([doses * 0.8, doses * 0.05])
    return xr.Dataset(
        {
            "effect": (("condition", "dose"), value, about("change of logit_diff", "logit")),
            "effect_low": (("condition", "dose"), value - 0.3, about("lower bound", "logit")),
            "effect_high": (("condition", "dose"), value + 0.3, about("upper bound", "logit")),
        },
        coords={"condition": ["days", "random_direction"], "dose": doses},
        attrs={"kind": "steering", "n_stimuli": STIMULI},
    )


def paths() -> xr.Dataset:
    effect = np.zeros((3, 2))
    effect[1, 0] = -0.4
    dims = ("sender", "receiver")
    return xr.Dataset(
        {"recovered": (dims, effect, about("share of the metric that is restored"))},
        coords={"sender": ["L0H1", "L0H2", "MLP0"], "receiver": ["L1H1.k", "L1H1.v"]},
        attrs={"kind": "patching", "n_stimuli": STIMULI},
    )


def methods_by_layer() -> xr.Dataset:
    layered = [selection().assign_coords(layer=layer) for layer in (0, 1)]
    layered[1]["accuracy"] = layered[1]["accuracy"][::-1].copy(data=layered[1]["accuracy"].values)
    data = xr.concat(layered, "layer", data_vars="minimal")
    return data.assign_attrs(selection().attrs)


def steps() -> xr.Dataset:
    accuracy = np.array([[0.5, 0.8, 0.9], [0.6, 0.7, 1.0]])
    dims = ("seed", "revision")
    return xr.Dataset(
        {
            "accuracy": (dims, accuracy, about("share of right answers")),
            "accuracy_low": (dims, accuracy - 0.1, about("lower bound")),
            "accuracy_high": (dims, accuracy + 0.1, about("upper bound")),
        },
        coords={"seed": [0, 1], "revision": ["main", "step0", "step80"]},
        attrs={"kind": "choice", "n_stimuli": STIMULI},
    )


def captured() -> xr.Dataset:
    ids = [f"s{number}" for number in range(3)]
    texts = np.array([TOKENS, [*TOKENS[:5], "", "", ""], [*TOKENS[:-1], "x" * 80]])
    norm = np.arange(48.0).reshape(3, 2, 8)
    norm[1, :, 5:] = np.nan
    return xr.Dataset(
        {"norm": (("stimulus", "layer", "position"), norm, about("norm", "activation"))},
        coords={"stimulus": ids, "layer": [0, 1], "position": np.arange(8),
                "token_text": (("stimulus", "position"), texts)},
        attrs={"site": "resid_post", "stimuli": "words"},
    )  # fmt: skip


def maps() -> xr.Dataset:
    pattern = attention()["pattern"].isel(layer=0).expand_dims(stimulus=["s0", "s1"]).copy()
    mask = np.ones((2, len(TOKENS)), dtype=bool)
    mask[0, 6:] = False
    return xr.Dataset(
        {"activation": pattern.assign_attrs(about("attention"))},
        coords={
            "mask": (("stimulus", "query"), mask),
            "position_token": ("query", ["<s>", " Mon", "", "", "", "", "", ""]),
        },
        attrs={"site": "attn_pattern", "stimuli": "words"},
    )


def steered() -> xr.Dataset:
    data = steering().isel(dose=slice(0, 2))
    drawn = np.arange(12.0).reshape(1, 2, 2, 3)
    drawn[:, 1, 0] = np.nan  # that condition has no such dose
    dims = ("control", "condition", "dose", "draw")
    return data.assign(control_effect=(dims, drawn, about("of a control", "logit"))).assign_coords(
        control=["random_direction"], draw=np.arange(3)
    )


def second_order() -> xr.Dataset:
    value = 0.9 ** np.abs(np.arange(LAYERS)[:, None] - np.arange(4))
    return xr.Dataset(
        {"similarity": (("layer", "model_layer"), value, about("rho of two RDMs"))},
        coords={"layer": np.arange(LAYERS), "model_layer": np.arange(4)},
        attrs={"kind": "rsa", **TESTED},
    )


def contrast() -> xr.Dataset:
    d = 0.2 * rng().standard_normal((LAYERS, 40))
    d[4, 17] = -2.0
    dims = ("layer", "unit")
    return xr.Dataset(
        {
            "d": (dims, d, about("Cohen's d, months minus numerals")),
            "d_low": (dims, d - 0.3, about("lower bound")),
            "d_high": (dims, d + 0.3, about("upper bound")),
            "p_fdr": (dims, np.where(np.abs(d) > 1, 0.001, 0.7), about("p, fdr")),
        },
        coords={"layer": np.arange(LAYERS), "unit": np.arange(40)},
        attrs={"kind": "contrast", "n_stimuli": STIMULI},
    )


ALL = (rsa, second_order, contrast, probe, selection, methods_by_layer, ablation, patching, paths,
       attribution, circuit, attention, lens, norms, choice, steps, sae, steering,
       steered)  # fmt: skip
CAPTURES = (captured, maps)
