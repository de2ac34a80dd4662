"""Models: from what a spec names to a config, a tokenizer and, when asked, weights."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoTokenizer

from patchclamp.analyses.readings import ModelShape
from patchclamp.engine.fetching import CLIENT_ERRORS, brief, reason
from patchclamp.engine.problems import Problems
from patchclamp.engine.records import digest_of, file_digest
from patchclamp.registry import ARCHITECTURES, MODELS
from patchclamp.registry.errors import ModelError, nearest
from patchclamp.registry.locations import Architecture
from patchclamp.registry.matching import architecture_of, differs
from patchclamp.specs.model import ModelChoice

transformers.utils.logging.disable_progress_bar()

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_HUB_FILES = ["*.json", "*.txt", "*.model"]
"""What is fetched from a hub beside weights, which are never pickled ones; and never code."""
_HUB_WEIGHTS = ["*.safetensors"]
_NAMES = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
"""Members of a config that change no number: what wrote it, and a precision that the spec says."""


@dataclass(frozen=True)
class ModelSource:
    """A model that was found: its files are read, its weights are not loaded yet."""

    choice: ModelChoice
    folder: Path
    revision: str
    config: Any
    tokenizer: Any
    architecture: Architecture
    seed: int

    @property
    def shape(self) -> ModelShape:
        """Number of layers, of attention heads in each, and the sizes of streams and MLPs."""
        config, heads = self.config, int(self.config.num_attention_heads)
        inner = ("intermediate_size", "ffn_dim", "n_inner")
        neurons = next((size for name in inner if (size := getattr(config, name, None))), None)
        return ModelShape(
            layers=int(config.num_hidden_layers),
            heads=heads,
            kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
            units=int(config.hidden_size),
            neurons=int(neurons or 4 * config.hidden_size),
            parallel=self.architecture.parallel,
            edgeless=self.architecture.edgeless,
        )

    @property
    def context(self) -> int:
        """Most tokens that a stimulus may have."""
        return int(self.config.max_position_embeddings)

    def weights_digest(self, memory: Path) -> str:
        """sha256 of the weight files; of config and seed where weights are random.

        Digests of files that have not changed are remembered in the folder `memory`.
        """
        if self.choice.weights == "random":
            content = (self.folder / "config.json").read_bytes()
            return "random:" + hashlib.sha256(f"{self.seed}/".encode() + content).hexdigest()
        files = weight_files(self.folder)
        digests = [(file.name, file_digest(file, memory, linked=False)) for file in files]
        return digests[0][1] if len(digests) == 1 else digest_of(digests)

    @cached_property
    def config_digest(self) -> str:
        """sha256 of what the config says: the same weights, read by another, are another model."""
        content: dict[str, Any] = json.loads((self.folder / "config.json").read_bytes())
        told = {key: value for key, value in content.items() if key not in _NAMES}
        return digest_of(json.dumps(told, sort_keys=True))

    def tokenizer_digest(self) -> str:
        """sha256 of the tokenizer's rules and vocabulary."""
        return self._tokenizer_digest

    @cached_property
    def _tokenizer_digest(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        text = (
            backend.to_str()
            if backend is not None
            else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        )
        return hashlib.sha256(text.encode()).hexdigest()


def find_model(problems: Problems, *, weights: bool = True) -> ModelSource | None:
    """Find the spec's model and read its config and tokenizer; None after reporting why not.

    Without `weights` they need not be there and are not fetched; that a hub cannot be asked is
    then a warning.
    """
    found = read_model(problems, weights=weights)
    if found is None:
        return None
    folder, revision, config, tokenizer = found
    spec = problems.loaded.spec
    architecture = architecture_of(config)
    if architecture is None:
        problems.add(
            ("model", "id"),
            "P411",
            f"{spec.model.id!r} is a {config.model_type!r} model"
            f"{f' with {other}' if (other := differs(config)) else ''}, whose sites are not known",
            allowed=tuple(ARCHITECTURES),
        )
        return None
    return ModelSource(
        spec.model,
        folder,
        revision,
        config,
        tokenizer,
        architecture,
        spec.seed,
    )


def read_model(problems: Problems, *, weights: bool) -> tuple[Path, str, Any, Any] | None:
    """Return folder, revision, config and tokenizer of the spec's model, of any architecture."""
    choice = problems.loaded.spec.model
    found = _locate(choice, problems, weights)
    if found is None:
        return None
    try:
        config = AutoConfig.from_pretrained(found[0], local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(found[0], local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        message = f"{choice.id!r} holds no readable model: {brief(error)}"
        problems.add(("model", "id"), "P410", message)
        return None
    return (*found, config, tokenizer)


def _locate(choice: ModelChoice, problems: Problems, weights: bool) -> tuple[Path, str] | None:
    """Return the folder and revision of a bundled model, a local folder or a hub id."""
    path = ("model", "id")
    if choice.id.startswith("bundled:"):
        return _bundled(choice, problems)
    folder = problems.loaded.folder_of(path) / Path(choice.id).expanduser()
    if folder.is_dir():
        if choice.revision is not None:
            problems.add(
                ("model", "revision"), "P409", f"the folder {choice.id!r} has no revisions"
            )
            return None
        return folder, "local"
    if not _HUB_ID.fullmatch(choice.id) or choice.id.startswith("."):
        problems.add(
            path,
            "P408",
            f"there is no model folder {choice.id!r} (looked for {folder})",
            suggestion=_sibling(choice.id, folder),
        )
        return None
    return _from_hub(choice, problems, weights)


def _bundled(choice: ModelChoice, problems: Problems) -> tuple[Path, str] | None:
    if choice.id not in MODELS:
        problems.add(
            ("model", "id"),
            "P408",
            f"unknown bundled model {choice.id!r}",
            allowed=tuple(MODELS),
            suggestion=nearest(choice.id, MODELS),
        )
        return None
    model = MODELS[choice.id]
    revision = choice.revision or "main"
    if revision not in model.revisions:
        problems.add(
            ("model", "revision"),
            "P409",
            f"{choice.id!r} has no revision {revision!r}",
            allowed=model.revisions,
            suggestion=nearest(revision, model.revisions),
        )
        return None
    return model.path(revision), revision


def _from_hub(choice: ModelChoice, problems: Problems, weights: bool) -> tuple[Path, str] | None:
    """Fetch a snapshot from the Hugging Face hub, or its local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    files = [*_HUB_FILES, *(_HUB_WEIGHTS if weights else [])]
    folder = problems.loaded.folder_of(("model", "id")) / choice.id
    close = _sibling(choice.id, folder)
    try:
        found = snapshot_download(choice.id, revision=choice.revision, allow_patterns=files)
    except RevisionNotFoundError:
        message = f"{choice.id!r} has no revision {choice.revision!r} on the hub"
        problems.add(("model", "revision"), "P409", message)
        return None
    except (*CLIENT_ERRORS, ValueError) as error:
        missing = isinstance(error, RepositoryNotFoundError)
        # What only lies out of reach is no mistake of the spec's; a name close to a folder's is.
        if not weights and not missing and close is None:
            problems.add(
                ("model", "id"),
                "P419",
                f"{choice.id!r} cannot be checked here: it is not in the local cache, and the hub "
                f"could not be asked ({reason(error)})",
                severity="warning",
            )
            return None
        problems.add(
            ("model", "id"),
            "P408",
            f"{choice.id!r} is no folder ({folder}) and could not be had from the hub: "
            f"{reason(error)}",
            allowed=(*MODELS, "a folder", "a hub id such as EleutherAI/pythia-70m"),
            suggestion=close,
        )
        return None
    return Path(found), Path(found).name


def _sibling(given: str, folder: Path) -> str | None:
    """Return the folder beside a missing one whose name is closest, written as it was given."""
    beside = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
    close = nearest(folder.name, beside)
    return None if close is None else str(Path(given).with_name(close))


def served(source: ModelSource) -> str:
    """Return what is known of weights that a server holds: the name of their revision, and which
    one has this name here."""
    named = source.choice.revision or "main"
    return f"served:{source.choice.id}@{named}:{source.revision}"


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder; pickled weights can run code and are refused."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no *.safetensors weights (pickled ones are refused)")
    return files
