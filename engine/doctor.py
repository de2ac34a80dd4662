"""Doctor: examines a model that nobody has tried, or the place that patchclamp runs in."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from patchclamp.engine.batches import pad
from patchclamp.engine.examination import Finding, examine
from patchclamp.engine.model import ModelSource, read_model
from patchclamp.engine.problems import Problems
from patchclamp.engine.weights import choose_device, load_weights, threads_for
from patchclamp.registry import ARCHITECTURES, SITES
from patchclamp.registry.errors import ModelError, UsageError, hint
from patchclamp.registry.locations import Architecture
from patchclamp.registry.matching import architecture_of, differs
from patchclamp.specs.load import loads
from patchclamp.specs.model import expand_model
from patchclamp.specs.scalars import dump

TOKENS = 12
"""Tokens that a model is examined on: different ones, drawn from its vocabulary."""

FORMATS = ("human", "json")

_COLOURS = {"OK": "green", "DEGRADED": "yellow", "UNSUPPORTED": "dim", "WRONG": "bold red"}

_SPEC = {
    "patchclamp": 1,
    "name": "doctor",
    "stimuli": {"none": {"kind": "items", "text": "{text}", "items": [{"text": "none"}]}},
}
"""A spec without anything but its model, which is what a model is found by."""


@dataclass(frozen=True)
class Report:
    """What was found of a model; `known` says whether its `model_type` is in the table."""

    model: str
    revision: str
    model_type: str
    architecture: str | None
    known: bool
    differs: str
    """What its config says that rows of its type are not for."""
    shape: dict[str, Any]
    sites: tuple[Finding, ...]

    @property
    def findings(self) -> bool:
        """Whether a site is not what the table says, or a spec would refuse the model."""
        bad = ("DEGRADED", "WRONG")
        lost = [f for f in self.sites if f.verdict == "UNSUPPORTED" and f.place]
        return not self.known or bool(lost) or any(f.verdict in bad for f in self.sites)


def doctor_command(arguments: Namespace) -> int:
    """Examine a model, or the environment; returns 1 if anything is wrong with it."""
    if arguments.format not in FORMATS:
        raise UsageError(f"unknown format {arguments.format!r}{hint(arguments.format, FORMATS)}")
    if arguments.remote and arguments.model is not None:
        raise UsageError("--remote is about the server; leave the model out")
    if arguments.model is None:
        from patchclamp.engine.environment import environment_command

        return environment_command(arguments)
    report = diagnose(arguments.model, device=arguments.device, untrained=arguments.untrained)
    if arguments.format == "json":
        sys.stdout.write(json.dumps(as_data(report), indent=2, ensure_ascii=False) + "\n")
    else:
        show(report, Console())
    return int(report.findings)


def as_data(report: Report) -> dict[str, Any]:
    """Return a report as plain data; a deviation without bound is written as text."""
    data = {**asdict(report), "findings": report.findings}
    for site in data["sites"]:
        if site["deviation"] is not None and not np.isfinite(site["deviation"]):
            site["deviation"] = str(site["deviation"])
    return data


def diagnose(model: str, *, device: str = "auto", untrained: bool = False) -> Report:
    """Examine a model by its id, `owner/name@revision` or folder, as far as it can be loaded.

    A model whose type no row of the architecture table has is examined as every row whose modules
    it has; the best of them is reported. Raises `ModelError` if it cannot be read.
    """
    source = _find(model, untrained)
    known = architecture_of(source.config)
    rows = [known] if known is not None else list(_similar(source))
    best: tuple[Finding, ...] = ()
    chosen: Architecture | None = None
    ids = tokens(source.config, TOKENS)
    module = None
    if rows:
        module = _load(replace(source, architecture=rows[0]), choose_device(device), ids)
    for row in rows:
        assert module is not None
        with threads_for(module):
            under = replace(source, architecture=row)
            found = tuple(examine(under, module, ids))
        if chosen is None or _good(found) > _good(best):
            best, chosen = found, row
    none = "no row of the architecture table has modules like these"
    best = best or tuple(Finding(site, "", "UNSUPPORTED", none) for site in SITES)
    return Report(
        model,
        source.revision,
        str(source.config.model_type),
        None if chosen is None else chosen.name,
        known is not None,
        differs(source.config) if known is None else "",
        _shape(source, module),
        best,
    )


def _good(findings: Sequence[Finding]) -> int:
    return Counter(finding.verdict for finding in findings)["OK"]


def tokens(config: Any, n: int) -> list[int]:
    """Draw different tokens; equal ones would hide where attention goes."""
    vocabulary = int(config.vocab_size)
    return [int(i) for i in np.random.default_rng(0).permutation(vocabulary)[:n]]


def _find(model: str, untrained: bool) -> ModelSource:
    """Find a model of any architecture, which its source does not say yet."""
    choice = {**expand_model(model), "weights": "random" if untrained else "trained"}
    problems = Problems(loads(dump({**_SPEC, "model": choice}), folder=Path.cwd()))
    found = read_model(problems, weights=not untrained)
    if found is None:
        told = problems.found[0]
        known = f" (known: {', '.join(told.allowed)})" if told.allowed else ""
        close = f"; did you mean {told.suggestion!r}?" if told.suggestion else ""
        raise ModelError(f"{told.message}{known}{close}")
    folder, revision, config, tokenizer = found
    for key in ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size"):
        if getattr(config, key, None) is None:
            raise ModelError(
                f"{model!r} is a {config.model_type!r} model, whose config has no {key!r}: it is "
                "no language model of one stack of layers"
            )
    row = next(iter(ARCHITECTURES.values()))
    spec = problems.loaded.spec
    return ModelSource(spec.model, folder, revision, config, tokenizer, row, spec.seed)


def _similar(source: ModelSource) -> Iterator[Architecture]:
    """Yield rows of the table whose blocks a model has, the most alike first, each sort once."""
    encoder = "MaskedLM" in str(getattr(source.config, "architectures", None))
    family = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            tree = dict(family.from_config(source.config).named_modules())
    except ValueError as error:
        raise ModelError(f"{source.choice.id!r} is no language model: {error}") from error
    except Exception as error:  # whatever a model does with a config that it has not checked
        raise ModelError(
            f"{source.choice.id!r} cannot be made by its config: {_reason(error)}"
        ) from error
    seen: list[Architecture] = []
    ranked: list[tuple[int, Architecture]] = []
    for row in ARCHITECTURES.values():
        alike = any(
            (row.places, row.rotary, row.softcap) == (other.places, other.rotary, other.softcap)
            for other in seen
        )
        if row.places["resid_pre"].path.format(layer=0) in tree and not alike:
            seen.append(row)
            paths = {where.path.format(layer=0) for where in row.places.values()}
            ranked.append((len(paths & tree.keys()) - len(paths - tree.keys()), row))
    for _, row in sorted(ranked, key=lambda pair: -pair[0]):
        yield replace(row, lacks={})


def _load(source: ModelSource, device: str, ids: Sequence[int]) -> torch.nn.Module:
    """Load a model and run it once, so that what it cannot do itself is not blamed on its sites."""
    done = "loaded"
    try:
        module = load_weights(source, device)
        done = "run"
        with torch.no_grad():
            given = {key: value.to(device) for key, value in pad([ids], pad_id=0).items()}
            module(**given, use_cache=False)
    except ModelError:
        raise
    except Exception as error:  # it may do anything
        raise ModelError(f"{source.choice.id!r} cannot be {done}: {_reason(error)}") from error
    return module


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _shape(source: ModelSource, module: torch.nn.Module | None) -> dict[str, Any]:
    config = source.config
    shape: dict[str, Any] = {
        "layers": source.shape.layers,
        "heads": source.shape.heads,
        "kv_heads": int(getattr(config, "num_key_value_heads", None) or source.shape.heads),
        "units": int(config.hidden_size),
        "vocabulary": int(config.vocab_size),
        "context": getattr(config, "max_position_embeddings", None),
        "dtype": source.choice.dtype,
    }
    if module is not None:
        shape["parameters"] = sum(parameter.numel() for parameter in module.parameters())
        shape["attention"] = getattr(module.config, "_attn_implementation", None)
    return shape


def show(report: Report, console: Console) -> None:
    """Print a report: the model, then a row for each site."""
    as_row = f"as {report.architecture}" if report.architecture else "as nothing that is known"
    console.print(
        f"{report.model}@{report.revision}: {report.model_type}, examined {as_row}",
        highlight=False,
        markup=False,
    )
    facts = ", ".join(f"{key} {value}" for key, value in report.shape.items() if value is not None)
    console.print(facts, highlight=False, markup=False, style="dim")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("site", "verdict", "off by", "where, and why"):
        table.add_column(column, no_wrap=column != "where, and why", overflow="fold")
    for finding in report.sites:
        off = "" if finding.deviation is None else f"{finding.deviation:.0e}"
        colour = _COLOURS[finding.verdict]
        why = finding.reason or finding.place
        table.add_row(finding.site, f"[{colour}]{finding.verdict}[/]", off, why.replace("[", r"\["))
    console.print(table)
    counts = Counter(finding.verdict for finding in report.sites)
    console.print(", ".join(f"{n} {verdict}" for verdict, n in counts.items()), highlight=False)
    if not report.known:
        other = f" with {report.differs}" if report.differs else ""
        console.print(
            f"No row of the architecture table is for {report.model_type!r}{other}: a spec is "
            "refused (P411) until a plugin adds one.",
            highlight=False,
            markup=False,
        )
