"""What happens inside a forward pass: torch only, plain dicts in and out.

A backend sees the places of the steps in the order in which the model computes them, and does each
step at its place's canonical tensor (see `engine.sites`). This is the code that a remote server
would run, so it knows no class of ours. A step has its `place` and is one of

    {"do": "read", "key", "heads", "index", ...}      keep what is chosen: see `read`
    {"do": "write", "edits"}                          put other values in place
    {"do": "scale", "edits"}                          hold a norm's scale: see `held_scale`
    {"do": "answers", "rows", "positions", ...}       see `engine.scoring`
    {"do": "narrow", "rows", "positions", "columns"}  go on with these tokens only, as one row
    {"do": "keep", "key"}                             keep the tensor where it is, whole
    {"do": "precision", "key"}                        keep nothing, in the precision of the place
    {"do": "leaf"}                                    let gradients begin here
    {"do": "hold", "key"}                             keep the size of each token's vector
    {"do": "objective", "of", "at", ...}              take gradients of it: see `differentiate`

A read step with `gradient` keeps the gradient at its place instead of the activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from patchclamp.engine.cuts import receive
from patchclamp.engine.products import attribute, blend
from patchclamp.engine.reductions import reduce
from patchclamp.engine.scoring import objective, read_answers
from patchclamp.engine.sites import first, member, only_seen, put, take

Found = dict[str, torch.Tensor]


def arrive(visit: dict[str, Any], value: Any, kept: dict[Any, Any]) -> tuple[Found, Any]:
    """Do all steps of a place that a pass has come to; returns what is read and what goes on.

    `value` is what the module is given or gives; it goes on as it is, the same object, unless a
    step writes. `kept` holds what later steps need of earlier places, and what
    was written there.
    """
    found: Found = {}
    here = (visit["path"], visit["io"])
    for step in visit["steps"]:
        place = step["place"]
        seen = [(part["path"], part["io"]) for part in place["parts"]]
        values = [value if where == here else kept[where] for where in seen]
        results, replacement = do(step, values, kept)
        found.update(results)
        if replacement is not None:
            maps = place["form"] in ("scores", "pattern")
            before = take(place, values, kept) if maps else None
            value = put(place, values, replacement, before)
            if maps:
                kept[place["site"], place["layer"]] = replacement
    if visit.get("keep"):
        kept[here] = value
    for where in visit.get("drop", ()):
        kept.pop(where, None)
    return found, value


def do(
    step: dict[str, Any], values: Sequence[Any], kept: dict[Any, Any]
) -> tuple[Found, torch.Tensor | None]:
    """Do one step where its place is seen; returns what is read, and what replaces the tensor."""
    if step["do"] == "read" and step["gradient"]:
        kept["gradient", step["key"]] = (step, values)
        return {}, None
    if step["do"] == "watch":
        kept["watched", step["key"]] = (step["place"], values)
        return {}, None
    tensor = take(step["place"], values, kept)
    match step["do"]:
        case "write":
            return {}, only_seen(step["place"], values, (tensor, write(step, tensor)))
        case "scale":
            return {}, held_scale(step, values, kept["module", step["modules"][0]])
        case "narrow":
            return {}, tensor[step["rows"].to(tensor.device), step["positions"].to(tensor.device)][
                None
            ]
        case "keep":
            return {step["key"]: tensor.detach().clone()}, None
        case "precision":
            return {step["key"]: tensor.new_empty(0).to("cpu")}, None
        case "leaf":
            return {}, tensor.detach().requires_grad_(True)
        case "hold":
            vectors = tensor.detach().float()
            flat = vectors.transpose(1, 2).flatten(2) if vectors.ndim == 4 else vectors
            kept["held", step["key"]] = torch.linalg.vector_norm(flat, dim=-1)
            return {}, None
        case "answers":
            found = read_answers(step, tensor)
            return {f"answers.{name}": value for name, value in found.items()}, None
        case "objective":
            return differentiate(step, tensor, kept), None
        case "withhold":
            kept["withheld", step["key"]] = write(step, tensor) - tensor
            return {}, None
        case "receive":
            return {}, receive(step, (tensor, values), kept)
        case "blend":
            return {}, blend(step, tensor)
        case "apart":
            return {}, tensor.view_as(tensor)
        case "attribute":
            return attribute(step, tensor, kept), None
    return read(step, tensor), None


def read(step: dict[str, Any], tensor: torch.Tensor) -> Found:
    """Return copies of what is chosen of a tensor (row, [head], position, unit), on the CPU.

    `rows` are the input rows that are of stimuli, None if all are; `lengths` (row,) their tokens.
    `heads` are kept, None for all. `index` (row, chosen) are positions, -1 for none, and None
    keeps every one; so do `keys` (row, chosen) of a map. What has no token is NaN. Beside it
    stands, as `<key>/bad`, how many numbers of each row are not finite.
    """
    device, lengths = tensor.device, step["lengths"].to(tensor.device)
    if step["rows"] is not None:
        tensor = tensor[step["rows"].to(device)]
    if step["heads"] is not None:
        tensor = tensor[:, step["heads"]]
    if step["index"] is None:
        tensor = tensor[..., : int(step["lengths"].max()), :]
        index = torch.arange(tensor.shape[-2], device=device).expand(len(tensor), -1)
        index = index.where(index < lengths[:, None], -1)
    else:
        index = step["index"].to(device)
        where = index.clamp(min=0).view(len(index), *[1] * (tensor.ndim - 3), -1, 1)
        tensor = tensor.gather(-2, where.expand(*tensor.shape[:-2], -1, tensor.shape[-1]))
    mask = index >= 0
    there = mask.view(len(mask), *[1] * (tensor.ndim - 3), -1, 1)
    if step["map"]:
        tensor = tensor[..., : int(step["lengths"].max())]
        keys = torch.arange(tensor.shape[-1], device=device)
        seen = (keys < lengths[:, None]).view(len(mask), 1, 1, -1)
        # A key that a query does not see has no score.
        there = there & seen & (tensor != float("-inf"))
        if step["keys"] is not None:
            chosen = step["keys"].to(device)[:, None, None]
            where = chosen.clamp(min=0).expand(*tensor.shape[:-1], -1)
            tensor, there = tensor.gather(-1, where), there.gather(-1, where) & (chosen >= 0)
    key = step["key"]
    found = {f"{key}/bad": not_finite(tensor, there)}
    if not step["reduce"]:
        name = "gradient" if step["gradient"] else "activation"
        full = step["index"] is None and int(step["lengths"].min()) == tensor.shape[-2]
        kept = tensor.clone() if full and not step["map"] else tensor.where(there, float("nan"))
        found[f"{key}/{name}"] = kept
    at = {"index": index, "lengths": lengths, **({"there": there} if step["map"] else {})}
    for how in step["reduce"]:
        for part, value in reduce(how, tensor, mask, at).items():
            found[f"{key}/{how['name']}{part and '_'}{part}"] = value
    # Each is new already, no view of what the model goes on to compute with.
    return {name: value.detach().to("cpu") for name, value in found.items()}


def not_finite(tensor: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Return how many numbers of each row are not finite, where `there` says that one counts."""
    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
    if torch.isfinite(total):  # so is every term: one pass over them, and no tensor of flags
        return torch.zeros(len(tensor), dtype=torch.int64, device=tensor.device)
    return (~torch.isfinite(tensor) & there).flatten(1).sum(1)


def differentiate(step: dict[str, Any], logits: torch.Tensor, kept: dict[Any, Any]) -> Found:
    """Return what the gradient steps read of the gradient of an objective at their places.

    Stimuli do not depend on one another, so the gradient of the sum over them is that of each. One
    whose answers go on in several ways is in several input rows, and its gradient is the sum over
    them: `first` (row,) is the first row of the same stimulus, None if each has one row. A step
    with `times` is about the weight that writes its place: what token t adds to its gradient is
    the outer product of the gradient at t and the input x there, whose size is that of the gradient
    times that of x.
    """
    asked = [key for key in kept if key[0] == "gradient"]
    tensors = [member(kept[key][0]["place"]["parts"][-1], kept[key][1][-1]) for key in asked]
    gradients = torch.autograd.grad(objective(step, logits).sum(), tensors)
    found: Found = {}
    for key, gradient in zip(asked, gradients, strict=True):
        source, values = kept[key]
        tensor = take(source["place"], [*values[:-1], gradient])
        if source["first"] is not None:
            first = source["first"].to(tensor.device)
            tensor = torch.zeros_like(tensor).index_add_(0, first, tensor)
        if source["times"] is not None:
            tensor = tensor * kept["held", source["times"]][..., None]
        found.update(read(source, tensor))
    return found


def write(step: dict[str, Any], tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor (row, [head], position, unit) with each edit's value in place.

    An edit is for the input `rows`, start and stop, None for all, for a `head` and `units`, None
    for all. Its `value` broadcasts against what it is for; without an `index` that is every
    position, and more positions than the batch has are left out. `index` (row, place) are
    positions, -1 for none, and position is then place in `value`. `how` it is put in place: `set`;
    `add`; `project`, which leaves nothing along a value of length one; `turn`, which keeps the
    length of the vector that is there; or `copy`, which takes what the rows `of`, start and stop,
    have there.
    """
    changed = tensor.clone()
    for edit in step["edits"]:
        region = changed if edit["rows"] is None else changed[slice(*edit["rows"])]
        if edit["head"] is not None:
            region = region[:, edit["head"]]
        value = edit["value"].to(changed.device)
        value = value[(None,) * (region.ndim - value.ndim)]
        if step["place"]["form"] in ("scores", "pattern") and value.shape[-1] > 1:
            # Of another stimulus, in a batch of another length: the keys that both have.
            more = region.shape[-1] - value.shape[-1]
            value = torch.nn.functional.pad(value, (0, more))
        if edit["index"] is None:
            if value.shape[-2] > 1:
                value = value[..., : region.shape[-2], :]
            where: Any = ...
        else:
            index = edit["index"].to(changed.device)
            rows, places = (index >= 0).nonzero(as_tuple=True)
            at = index[rows, places]
            value = value.expand(len(index), *value.shape[1:-2], index.shape[1], value.shape[-1])
            # (row, head, position, unit) at pairs of a row and a position is (pair, head, unit).
            value = value.transpose(1, 2)[rows, places] if value.ndim == 4 else value[rows, places]
            where = (rows, slice(None), at) if region.ndim == 4 else (rows, at)
        if edit["how"] == "copy":
            other = changed[slice(*edit["of"])]
            value = (other if edit["head"] is None else other[:, edit["head"]])[where]
            value = value if edit["units"] is None else value[..., edit["units"]]
        now = region[where]
        if edit["units"] is not None:
            now = now[..., edit["units"]]
        new = combined(edit["how"], now, value).to(changed.dtype)
        if edit["units"] is not None:
            whole = region[where].clone()
            whole[..., edit["units"]] = new.expand(now.shape)
            new = whole
        region[where] = new
    return changed


def held_scale(step: dict[str, Any], values: Sequence[Any], module: Any) -> torch.Tensor:
    """Return what a norm gives, with the scale of other rows where edits hold it.

    A norm gives w (x - m) / s + b, with s the size of x - m, and m its mean or, in a root mean
    square, 0. An edit puts for its `rows`, start and stop, the s that the rows `of` have; `count`
    are all rows. What has no epsilon is no norm, and gives what it gives.
    """
    epsilon = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    given, gives = first(values[0]), first(values[-1])
    if epsilon is None:
        return gives
    x = given.detach().float()
    if isinstance(module, torch.nn.LayerNorm):
        x = x - x.mean(-1, keepdim=True)
    size = (x.square().mean(-1, keepdim=True) + epsilon).sqrt()
    bias = getattr(module, "bias", None)
    bias = 0.0 if bias is None else bias
    count = step["edits"][0]["count"]
    # Some blocks give their norms rows and positions in one dim.
    rows, sizes = (t.reshape(count, -1, t.shape[-1]) for t in (gives, size))
    changed = rows.clone()
    for edit in step["edits"]:
        own, other = slice(*edit["rows"]), slice(*edit["of"])
        ratio = sizes[own] / sizes[other]
        changed[own] = ((rows[own] - bias) * ratio + bias).to(changed.dtype)
    return changed.reshape(gives.shape)


def combined(how: str, now: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return what stands where `now` stood; see `write`."""
    if how == "add":
        return now + value
    if how == "project":
        exact = now.to(value.dtype)
        return exact - (exact * value).sum(-1, keepdim=True) * value
    if how == "turn":
        length = torch.linalg.vector_norm(now.to(value.dtype), dim=-1, keepdim=True)
        value = value * length
    return value
