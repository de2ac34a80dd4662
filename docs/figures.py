"""Draw the README's picture from a quick-start result: python docs/figures.py RESULT.nc OUT.png

It reads the result with plain xarray, as anybody can.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"  # told apart by colour-blind readers


def rsa(axes: Axes, data: xr.Dataset) -> None:
    """Similarity to the category model by layer, with the band that permuted labels give."""
    at = data.squeeze(["model_rdm", "position"])
    low, high = at["null"].quantile([0.025, 0.975], dim="permutation")
    axes.fill_between(at["layer"], low, high, color=GREY, alpha=0.4, label="permuted labels, 95 %")
    axes.plot(at["layer"], at["similarity"], "o-", color=BLUE, label="category model RDM")
    axes.set(title="RSA: is geometry by category?", ylabel="Spearman's rho", ylim=(-0.1, 1))
    axes.legend(frameon=False, fontsize=8)


def probe(axes: Axes, data: xr.Dataset) -> None:
    """Held-out accuracy by layer, with its interval and its controls."""
    at = data.squeeze("position")
    error = np.stack([at["accuracy"] - at["accuracy_low"], at["accuracy_high"] - at["accuracy"]])
    axes.errorbar(at["layer"], at["accuracy"], error, fmt="o-", color=BLUE, label="category")
    for control, colour, style in (("shuffled_labels", ORANGE, "s--"), ("majority", GREY, ":")):
        values = at["control_accuracy"].sel(control=control)
        axes.plot(at["layer"], values, style, color=colour, label=control.replace("_", " "))
    axes.set(title="Probe: can it be read out?", ylabel="held-out accuracy", ylim=(0, 1.05))
    axes.legend(frameon=False, fontsize=8, loc="center right")


def heads(axes: Axes, data: xr.Dataset) -> None:
    """What is left of the logit difference when each head is ablated."""
    share = 100 * data["share"].transpose("layer", "head")
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=100, aspect="auto", origin="lower")
    for layer, row in enumerate(share.to_numpy()):
        for head, value in enumerate(row):
            ink = "white" if value < 60 else "black"
            axes.text(head, layer, f"{value:.0f}", ha="center", va="center", color=ink)
    axes.set(title="Ablation: % of logit difference left", xlabel="head")
    axes.set_xticks(range(data.sizes["head"]))
    axes.figure.colorbar(image, ax=axes)


def main(result: str, out: str) -> None:
    """Draw the three panels side by side."""
    tree = xr.open_datatree(result, engine="netcdf4")
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    rsa(panels[0], tree["analyses/geometry"].to_dataset())
    probe(panels[1], tree["analyses/decode"].to_dataset())
    heads(panels[2], tree["analyses/heads"].to_dataset())
    for axes in panels[:2]:
        axes.set(xlabel="layer")
        axes.set_xticks(tree["analyses/decode"]["layer"])
        axes.spines[["top", "right"]].set_visible(False)
    panels[2].set(ylabel="layer")
    panels[2].set_yticks(range(tree["analyses/heads"].sizes["layer"]))
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
