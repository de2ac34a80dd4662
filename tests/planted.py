"""Captures with planted effects: what the tests of analyses are run on."""

import numpy as np
import xarray as xr


def capture(
    effect=(0.0, 0.0),
    *,
    classes=("apples", "birds", "coins"),
    templates=12,
    copies=1,
    whole=False,
    template_effect=0.0,
    units=16,
    seed=0,
):
    """Return `activation(stimulus, layer, position, unit)` with a class effect per layer.

    Each template holds `copies` stimuli of every class, or with `whole` of one class in turn;
    stimuli of a template share `template_effect` times a pattern. Layers are numbered 3, 5, ...
    and rows are in random order, so that neither can be mistaken for positions.
    """
    rng = np.random.default_rng(seed)
    rows = [
        (template, number)
        for template in range(templates)
        for number in range(len(classes))
        for _ in range(copies)
        if not whole or template % len(classes) == number
    ]
    template, label = rng.permutation(np.array(rows)).T
    layers = len(effect)
    values = rng.normal(size=(len(rows), layers, 1, units))
    prototypes = rng.normal(size=(len(classes), 1, 1, units))
    values += np.asarray(effect)[None, :, None, None] * prototypes[label]
    values += template_effect * rng.normal(size=(templates, layers, 1, units))[template]
    return xr.Dataset(
        {"activation": (("stimulus", "layer", "position", "unit"), values)},
        coords={
            "stimulus": [f"s{row:03d}" for row in range(len(rows))],
            "category": ("stimulus", np.array(classes)[label]),
            "group": ("stimulus", np.array([f"t{t:02d}" for t in template])),
            "layer": 3 + 2 * np.arange(layers),
            "position": [-1],
            "unit": np.arange(units),
        },
    )
