"""Weights: from a model that was found to modules in memory, on a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.fetching import brief
from patchclamp.engine.model import ModelSource, weight_files
from patchclamp.registry.errors import ModelError

_SMALL = 10_000_000
"""Parameters below which a model runs on one thread."""


def choose_device(device: str) -> str:
    """Return the device that `auto` means here, or the one asked for if it exists.

    >>> choose_device("cpu")
    'cpu'
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, there in available.items() if there)
    if not available[device]:
        there = ", ".join(name for name, yes in available.items() if yes)
        raise ModelError(f"device {device!r} is not available here (there is: {there})")
    return device


@contextmanager
def threads_for(module: torch.nn.Module, threads: int | None = None) -> Iterator[int]:
    """Compute with so many threads, one while a small model runs, and as before afterwards.

    Gives the number of threads.

    Handing such a model's tiny products between threads costs more than it saves: beside other
    work, a 260k-parameter model took 20 times longer on two threads than on one.
    """
    before = torch.get_num_threads()
    if threads is None and sum(p.numel() for p in module.parameters()) < _SMALL:
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def load_weights(source: ModelSource, device: str) -> torch.nn.Module:
    """Load, or for an untrained twin draw, the weights in the spec's precision, for evaluation.

    A weight that the file lacks, or that has another shape, is an error: the library would
    fill it with random numbers. What stands beside the sites, such as BERT's pooler, may be there
    or not.
    """
    dtype = getattr(torch, source.choice.dtype)
    # Faster attention leaves the bound on scores out, without a word in transformers 5.15.
    how = {"attn_implementation": "eager"} if source.architecture.softcap else {}
    family = AutoModelForMaskedLM if source.architecture.encoder else AutoModelForCausalLM
    if source.choice.weights == "random":
        with torch.random.fork_rng(devices=[]):
            seed = Seeds(source.seed, "model").generator("weights").integers(2**63)
            torch.manual_seed(int(seed))
            model = family.from_config(source.config, **how).to(dtype)
    else:
        weight_files(source.folder)
        try:
            model, info = family.from_pretrained(
                source.folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, with all else that does not fit
                **how,
            )
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"the weights in {source.folder} cannot be read: {brief(error)}; copy or fetch "
                "them again"
            ) from error
        found = {kind: sorted(str(key) for key in info[kind]) for kind in info}
        wrong = {
            kind: keys
            for kind, names in found.items()
            if (keys := [name for name in names if not name.startswith(source.architecture.beside)])
        }
        if wrong:
            raise ModelError(f"weights in {source.folder} do not fit the config: {wrong}")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    module: torch.nn.Module = model.eval().to(device)
    return module
