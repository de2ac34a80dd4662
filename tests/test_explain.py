"""Every code and every name is explained, and what an explanation shows is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from patchclamp.registry.errors import SpecError, UnknownNameError
from patchclamp.specs import grammar
from patchclamp.specs.codes import CODES, DEEP
from patchclamp.specs.document import parse
from patchclamp.specs.explain import TABLES, explain, names
from patchclamp.specs.explanations import EXPLANATIONS
from patchclamp.specs.load import load, loads
from patchclamp.specs.scalars import dump
from patchclamp.specs.snippets import BY_TABLE, snippet
from patchclamp.specs.spec import spec_model
from patchclamp.specs.starter import starter
from patchclamp.specs.wording import field_docs, type_text

BASE = {
    "patchclamp": "patchclamp: 1\n",
    "name": "name: x\n",
    "model": "model: bundled:sequences\n",
    "stimuli": (
        'stimuli: {words: {kind: builtin, set: sequences, text: "{prompt}", '
        "labels: [category, form], groups: template, "
        'answer: {correct: " {next}", foil: " {last}"}}}\n'
    ),
}
USED = {
    "captures": "captures: {resid: {site: resid_post}}\n",
    "interventions": "interventions: {zeroed: {kind: ablate, value: zero}}\n",
}


def completed(piece: str) -> str:
    """A piece of a spec with what every spec has; what has no key at all is a whole file."""
    keys = set(re.findall(r"^([a-z]+):", piece, re.MULTILINE))
    if not keys:
        return piece
    base = BASE | (USED if "analyses" in keys else {})
    return "".join(text for key, text in base.items() if key not in keys) + piece + "\n"


def codes(piece: str, *, lints: bool = False) -> list[str]:
    """What is wrong in a piece, checked with the overrides that its comments name."""
    try:
        loaded = loads(completed(piece), overrides=re.findall(r"--set (\S+)", piece))
    except SpecError as error:
        return [d.code for d in error.diagnostics]  # type: ignore[attr-defined]
    return [d.code for d in loaded.warnings] if lints else []


def codes_of_file(piece: str, folder: Path) -> list[str]:
    """The same for a file beside others: 21 bases that extend each other."""
    for i in range(1, 22):
        (folder / f"base_{i}.yaml").write_text(f"extends: [base_{i + 1}.yaml]\n")
    (folder / "base_22.yaml").write_text("seed: 1\n")
    path = folder / "spec.yaml"
    path.write_bytes(completed(piece).encode("latin-1" if "Latin-1" in piece else "utf-8"))
    with pytest.raises(SpecError) as caught:
        load(path)
    return [d.code for d in caught.value.diagnostics]  # type: ignore[attr-defined]


def plain(text: str) -> dict[str, Any]:
    document, problems = parse(text)
    assert document is not None
    assert not problems
    return document.value


def in_base(snippet: str) -> str:
    """A snippet within a spec that has all that snippets refer to, and nothing that uses it."""
    given = plain(snippet)
    spec = plain("".join([*BASE.values(), *("" if "stimuli" in given else USED[k] for k in USED)]))
    if "stimuli" not in given:
        spec["stimuli"]["scrambled"] = {"kind": "corrupt", "of": "words"}
        spec["analyses"] = {"decode": {"kind": "probe", "of": "resid", "target": "category"}}
    for key, value in given.items():
        spec[key] = {**spec[key], **value} if isinstance(spec.get(key), dict) else value
    return dump(spec)


def test_every_code_is_explained() -> None:
    assert list(EXPLANATIONS) == sorted(CODES)


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_the_wrong_piece_is_wrong_and_the_right_one_right(code: str, tmp_path: Path) -> None:
    explanation = EXPLANATIONS[code]
    assert codes(explanation.right, lints=True) == []
    if code in ("P101", "P501", "P502", "P503"):  # a matter of bytes, or of other files
        assert code in codes_of_file(explanation.wrong, tmp_path)
    elif code.startswith("P4") or code in DEEP:
        # For all that can be seen without the data, it is right.
        assert codes(explanation.wrong) == []
        assert explanation.wrong != explanation.right
    else:
        assert code in codes(explanation.wrong, lints=True)


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_an_explanation_is_a_few_sentences_that_fit_a_terminal(code: str) -> None:
    explanation = EXPLANATIONS[code]
    for text in (explanation.what, explanation.why):
        assert text[0].isupper()
        assert text.endswith(".")
        assert 20 < len(text) < 400
    assert explanation.fix.endswith((".", "?"))
    assert max(map(len, explanation.text().splitlines())) <= 140
    assert explanation.text().startswith(f"{code}: {CODES[code]}\n\n{explanation.what[:10]}")
    assert "```yaml\n" in explanation.markdown()


@pytest.mark.parametrize("name", sorted(names()))
def test_every_name_can_be_explained(name: str) -> None:
    text = explain(name)
    assert text.strip()
    assert max(map(len, text.splitlines())) <= 140
    assert "<class" not in text
    assert "typing." not in text


MODELS = sorted(grammar.models_by_path(spec_model()), key=str)


@pytest.mark.parametrize("model", dict.fromkeys(m for _, m in MODELS), ids=lambda m: m.__name__)
def test_every_key_says_what_it_means(model: type[BaseModel]) -> None:
    docs = field_docs(model)
    bare = [name for name in model.model_fields if name not in docs and name != "kind"]
    assert bare == []


ENTRIES = [(path, m) for path, m in MODELS if len(path) == 2 and grammar.kind_of(m)]


@pytest.mark.parametrize(("path", "model"), ENTRIES, ids=[m.__name__ for _, m in ENTRIES])
def test_the_snippet_of_a_kind_is_valid(path: tuple[str, str], model: type[BaseModel]) -> None:
    text = snippet(path, model)
    assert codes(in_base(text)) == []
    assert f"kind: {grammar.kind_of(model)}\n" in text
    assert "In a spec:" in explain(str(grammar.kind_of(model)))


@pytest.mark.parametrize(
    ("sort", "name"), [(s, n) for s, table in TABLES.items() if s in BY_TABLE for n in table]
)
def test_the_snippet_of_a_name_is_valid(sort: str, name: str) -> None:
    assert codes(in_base(BY_TABLE[sort].format(name=name))) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("p104", "P104: a tab in the indentation"),
        ("resid_post", "dims: stimulus, layer, position, unit"),
        ("sites.z", "identity: norm(sum over heads"),
        ("logit_diff", "estimand: logit_diff/1"),
        ("probe", "Headline results: accuracy, balanced_accuracy, auroc, p, p_max"),
        ("analyses.probe.cv", "Number of folds."),
        ("probe.cv.folds", "whole number, at least 2, at most 100 (default 5)"),
        ("analyses.decode.target", "target: "),
        ("captures.site", "resid_mid | mlp_act | mlp_out"),
        ("captures.resid.site", "resid_mid | mlp_act | mlp_out"),
        ("stimuli.csv.path", "relative to the spec's own folder"),
        ("run", "batch.tokens: whole number, at least 1 (default 8192)"),
        ("dtype", "float32 | float16 | bfloat16 (default float32)"),
        ("spearman", "compare: spearman"),
        ("ablate", "kind: ablate"),
        ("matrix.grid", "Path -> values."),
        ("extends", "Spec files that this one builds on."),
        ("norms", "Not implemented yet"),
        ("ndif", "gradients: none comes back through the sandbox"),
        ("analyses", "kind: rsa. Representational similarity"),
        ("rsa", "two classes and says nothing about their separation"),
    ],
)
def test_what_is_said_of_a_name(name: str, said: str) -> None:
    assert said in explain(name)


def test_a_name_that_means_nothing_proposes_one_that_does() -> None:
    for name in ("colunm", "analyses.probe.cw", "captures.site.more", ""):
        with pytest.raises(UnknownNameError, match="unknown name"):
            explain(name)
    with pytest.raises(UnknownNameError, match="did you mean 'column'"):
        explain("colunm")


def test_types_are_said_in_words() -> None:
    assert type_text(str | None) == "text"
    assert type_text(dict[str, tuple[int, ...]]) == "mapping of names to: list of whole numbers"
    assert type_text(tuple[str, str]) == "list of exactly 2: text, text"
    assert type_text(int | str) == "whole number, or text"


def test_the_starter_is_valid_and_names_its_file() -> None:
    text = starter("my-study", "my-study.yaml")
    spec = loads(text).spec
    assert (spec.name, len(spec.analyses)) == ("my-study", 3)
    assert text.startswith("# yaml-language-server: $schema=.patchclamp/schema.json\n")
    assert max(map(len, text.splitlines())) <= 100
