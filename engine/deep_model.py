"""What a spec says of the model's parts: layers, heads, units and nodes that it must have."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel

from patchclamp.engine.model import ModelSource
from patchclamp.engine.problems import Problems
from patchclamp.registry import SITES
from patchclamp.specs.analyses_causal import Units
from patchclamp.specs.analyses_circuits import Given, Prune
from patchclamp.specs.analyses_representation import LayerTarget
from patchclamp.specs.captures import Capture
from patchclamp.specs.interventions import Place
from patchclamp.specs.rdms import CaptureModel
from patchclamp.specs.selections import BeyondError, Heads, Layers, parse_head_name
from patchclamp.specs.selections import resolve_layers as layer_numbers
from patchclamp.specs.stimuli import Rows
from patchclamp.specs.walk import models_in

SECTIONS = ("captures", "interventions", "analyses")

_NODE = re.compile(r"L([0-9]{1,4})H([0-9]{1,4})|MLP([0-9]{1,4})")

Path = tuple[str | int, ...]


def entries_of(problems: Problems) -> Iterator[tuple[Path, BaseModel]]:
    """Yield everything that a spec says in captures, interventions and analyses, with its path."""
    for section in SECTIONS:
        yield from models_in(getattr(problems.loaded.spec, section), (section,))


def check_parts(model: ModelSource, problems: Problems) -> None:
    """P412, P413, P421: every layer, site, head, unit and node that is named is there."""
    for name, of_set in problems.loaded.spec.stimuli.items():
        if isinstance(of_set, Rows) and of_set.keep_if is not None:
            refuse_answers(("stimuli", name, "keep_if"), model, problems)
    for path, entry in entries_of(problems):
        if isinstance(entry, Capture) and entry.gradient is not None:
            refuse_answers((*path, "gradient"), model, problems)
        if isinstance(entry, Capture | Units | Place):
            _check_place(entry, path, model, problems)
        elif isinstance(entry, LayerTarget):
            check_layers(entry.layers, (*path, "layers"), model, problems)
        elif isinstance(entry, CaptureModel) and isinstance(entry.layer, int):
            check_layers((entry.layer,), (*path, "layer"), model, problems)
        elif isinstance(entry, Given | Prune):
            key = "nodes" if isinstance(entry, Given) else "protect"
            for i, node in enumerate(getattr(entry, key)):
                _check_node(node, (*path, key, i), model, problems)


def refuse_answers(path: Path, model: ModelSource, problems: Problems) -> None:
    """P413: what asks for an answer's logit asks a model that predicts what follows."""
    if model.architecture.encoder:
        message = (
            f"{model.choice.id!r} is an encoder: it predicts hidden tokens and none that follows, "
            "so that no answer has a logit"
        )
        problems.add(path, "P413", message)


def check_site(site: str, path: Path, model: ModelSource, problems: Problems) -> None:
    """P413: the architecture has a site."""
    row = model.architecture
    if site not in row.sites:
        why = row.lacks.get(site, row.summary)
        message = f"{model.choice.id!r} has no site {site!r}: {why}"
        problems.add(path, "P413", message, allowed=tuple(row.sites))


def check_layers(choice: Layers, path: Path, model: ModelSource, problems: Problems) -> None:
    """P412: the model has these layers."""
    try:
        layer_numbers(choice, model.shape.layers)
    except BeyondError as error:
        problems.add(path, "P412", f"{model.choice.id!r}: {error}")


def _check_place(
    entry: Capture | Units | Place, path: Path, model: ModelSource, problems: Problems
) -> None:
    check_layers(entry.layers, (*path, "layers"), model, problems)
    site = entry.site
    if site is not None:
        check_site(site, (*path, "site"), model, problems)
    dims = SITES[site].dims if site is not None else ()
    if site is not None and "layer" not in dims and entry.layers != "all":
        message = f"the site {site!r} is in no layer; leave 'layers' out"
        problems.add((*path, "layers"), "P421", message)
    if entry.heads != "all":
        if site is not None and not {"head", "kv_head"} & set(dims):
            message = f"the site {site!r} has no heads; leave 'heads' out"
            problems.add((*path, "heads"), "P421", message)
        else:
            shared = "kv_head" in dims
            _check_heads(entry.heads, shared, (*path, "heads"), (model, problems))
            _check_named(entry, path, model, problems)
    if isinstance(entry, Place) and entry.units and "unit" in dims:
        size = int(model.config.hidden_size)
        beyond = [unit for unit in entry.units if not 0 <= unit < size]
        if beyond:
            message = f"{model.choice.id!r} has {size} units, 0..{size - 1}, and no {beyond[0]}"
            problems.add((*path, "units"), "P421", message)


def _check_heads(
    heads: Heads, shared: bool, path: Path, context: tuple[ModelSource, Problems]
) -> None:
    """P421: heads exist; `shared` are those that grouped queries share."""
    model, problems = context
    layers, count = model.shape.layers, model.shape.heads
    if shared:
        count = int(getattr(model.config, "num_key_value_heads", None) or count)
    members: tuple[int | str, ...] = () if isinstance(heads, str) else heads
    for i, head in enumerate(members):
        layer, number = parse_head_name(head) if isinstance(head, str) else (0, head)
        if layer >= layers or number >= count:
            sort = "key-value heads" if shared else "heads"
            message = (
                f"{model.choice.id!r} has {layers} layers of {count} {sort}, counted from 0, and "
                f"no head {head}"
            )
            # Names are kept sorted, so that a place in the list is known for numbers only.
            where = (*path, i) if isinstance(head, int) else path
            problems.add(where, "P421", message)
            return


def _check_named(
    entry: Capture | Units | Place, path: Path, model: ModelSource, problems: Problems
) -> None:
    """P421: heads that are named with their layer are in layers that are asked for."""
    try:
        left = {*range(model.shape.layers)} - {*layer_numbers(entry.layers, model.shape.layers)}
    except BeyondError:
        return  # told by check_layers
    heads = () if isinstance(entry.heads, str) else entry.heads
    names = [head for head in heads if isinstance(head, str)]
    outside = [name for name in names if parse_head_name(name)[0] in left]
    if outside:
        message = f"'layers' leaves out the layer of {outside[0]}: the name says it, leave it out"
        problems.add((*path, "layers"), "P421", message)


def _check_node(node: str, path: Path, model: ModelSource, problems: Problems) -> None:
    found = _NODE.fullmatch(node)
    layers, heads = model.shape.layers, model.shape.heads
    if found is None:
        message = f"a node is a head such as L9H1, or an MLP such as MLP11; got {node!r}"
    elif int(found[1] or found[3]) >= layers or int(found[2] or 0) >= heads:
        message = (
            f"{model.choice.id!r} has {layers} layers of {heads} heads, counted from 0, and no "
            f"node {node}"
        )
    else:
        return
    problems.add(path, "P421", message)
