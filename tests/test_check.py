"""What entries say of one another: references, labels, groups, answers, columns; each by text."""

from typing import Any

import pytest

from patchclamp.registry.errors import SpecError
from patchclamp.specs import loads
from patchclamp.specs.captures import Capture
from patchclamp.specs.fields import Label, Ref
from patchclamp.specs.grammar import fields, models_by_path
from patchclamp.specs.interventions import Mean
from patchclamp.specs.references import fill, sections_of
from patchclamp.specs.spec import spec_model
from patchclamp.specs.walk import _metadata, marked

HEAD = "patchclamp: 1\nname: x\nmodel: bundled:sequences\n"
WORDS = (
    'kind: builtin, set: sequences, text: "{prompt}", labels: [category, form], '
    'groups: template, answer: {correct: " {next}", foil: " {last}"}'
)
PLAIN = 'kind: csv, path: x.csv, text: "{t}", labels: [kind, colour], groups: topic'
RSA = "kind: rsa, test: {permute: kind}"


def spec(
    stimuli: dict[str, str],
    captures: dict[str, str] | None = None,
    analyses: dict[str, str] | None = None,
    interventions: dict[str, str] | None = None,
) -> str:
    """Write a spec from entries in flow style, one a line."""
    text = HEAD
    given = (stimuli, captures, interventions, analyses)
    for section, entries in zip(
        ("stimuli", "captures", "interventions", "analyses"), given, strict=True
    ):
        if entries:
            text += f"{section}:\n" + "".join(f"  {k}: {{{v}}}\n" for k, v in entries.items())
    return text


def problems(text: str) -> list[tuple[str, str, str, str | None]]:
    """Return code, dotted path, message and suggestion of every problem."""
    with pytest.raises(SpecError) as caught:
        loads(text)
    found: Any = caught.value.diagnostics
    return [(d.code, d.headline.split(": ")[1], d.message, d.suggestion) for d in found]


def test_a_name_that_refers_to_nothing() -> None:
    text = spec(
        {"words": WORDS}, {"r": "of: wrds, site: z"}, {"p": "kind: probe, of: q, target: x"}
    )
    assert problems(text) == [
        ("P301", "captures.r.of", "no entry 'wrds' in 'stimuli'", "words"),
        ("P301", "analyses.p.of", "no entry 'q' in 'captures'", None),
    ]


def test_the_reference_set_of_a_mean_must_exist() -> None:
    ablate = {"m": "kind: ablate, value: {mean_over: scramled, per: all}"}
    text = spec({"scrambled": WORDS}, interventions=ablate)
    message = "no entry 'scramled' in 'stimuli'"
    assert problems(text) == [("P301", "interventions.m.value.mean_over", message, "scrambled")]


def test_left_out_with_several_candidates() -> None:
    text = spec({"a": WORDS, "b": WORDS}, {"r": "site: z"})
    message = "left out, which needs exactly one stimulus set that is not corrupt; there are 2"
    assert problems(text) == [("P302", "captures.r.of", message, None)]


def test_left_out_with_no_candidate() -> None:
    ablation = "kind: ablation, units: {site: z}, metric: {kind: logit_diff}"
    text = spec({"a": PLAIN}, analyses={"h": ablation, "p": "kind: probe, target: kind"})
    answer = "left out, which needs exactly one stimulus set with an 'answer'; there is none"
    means = "left out, which needs exactly one intervention; there is none"
    capture = "left out, which needs exactly one capture; there is none"
    assert sorted(problems(text)) == [
        ("P302", "analyses.h.stimuli", answer, None),
        ("P302", "analyses.h.with", means, None),
        ("P302", "analyses.p.of", capture, None),
    ]


def test_a_broken_entry_may_be_what_was_meant() -> None:
    text = spec({"a": "kind: csv, text: x"}, {"r": "site: z", "s": "of: a, site: z"})
    assert [p[0] for p in problems(text)] == ["P201"]


def test_what_is_spelled_out_already_stays() -> None:
    loaded = loads(spec({"a": WORDS, "b": "kind: corrupt"}, {"r": "of: b, site: z"}))
    assert loaded.spec.captures["r"].of == "b"
    assert fill(sections_of(loaded.spec)).entries == sections_of(loaded.spec).entries


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ("c", "a set cannot be a corruption of itself"),
        ("d", "stimuli.d is itself corrupt; name the set it is made from"),
        ("p", "stimuli.p has no 'slots': columns whose values may be rearranged"),
    ],
)
def test_only_sets_with_slots_can_be_corrupted(of: str, message: str) -> None:
    stimuli = {"a": WORDS, "p": PLAIN, "c": f"kind: corrupt, of: {of}", "d": "kind: corrupt, of: a"}
    assert problems(spec(stimuli)) == [("P303", "stimuli.c.of", message, None)]


def test_slots_of_its_own_make_a_set_corruptible() -> None:
    loads(spec({"p": PLAIN + ", slots: [s1, s2]", "c": "kind: corrupt"}))


def ablation(stimuli: str, metric: str, more: str = "") -> str:
    entry = f"kind: ablation, stimuli: a, units: {{site: z}}, metric: {{kind: {metric}}}{more}"
    return spec({"a": stimuli}, None, {"h": entry}, {"m": "kind: ablate, value: zero"})


def test_a_metric_needs_an_answer() -> None:
    message = "'logprob' needs an answer, and stimuli.a has no 'answer'"
    assert problems(ablation(PLAIN, "logprob")) == [("P304", "analyses.h.stimuli", message, None)]


def test_a_logit_difference_needs_a_foil() -> None:
    without = PLAIN + ", answer: {correct: ' {x}'}"
    message = "'logit_diff' needs a foil, and stimuli.a.answer has none"
    found = problems(ablation(without, "logit_diff"))
    assert found == [("P305", "analyses.h.metric.kind", message, None)]
    loads(ablation(without, "logprob"))


def test_a_share_needs_a_meaningful_zero() -> None:
    [(code, path, message, _)] = problems(ablation(WORDS, "logprob", ", share: true"))
    assert (code, path) == ("P306", "analyses.h.share")
    assert message == (
        "zero nat of 'logprob' does not mean no effect, so a share of its clean baseline means "
        "nothing; choose another metric or leave 'share' out"
    )
    loads(ablation(WORDS, "accuracy", ", share: true"))
    loads(ablation(WORDS, "logprob"))


def analysis(entry: str, stimuli: str = PLAIN) -> str:
    return spec({"a": stimuli}, {"r": "site: z"}, {"g": entry})


CATEGORY = "against: {m: {kind: category, column: kind}}"
"""A model RDM of the label that `RSA` permutes."""


@pytest.mark.parametrize(
    ("entry", "path", "suggestion"),
    [
        ("kind: probe, target: colou", "analyses.g.target", "colour"),
        (f"{RSA}, {CATEGORY.replace('column: kind', 'column: knd')}",
         "analyses.g.against.m.column", "kind"),
        (f"{RSA}, contrast: {{kind: discriminative, column: knd}}",
         "analyses.g.contrast.column", "kind"),
        (f"{RSA}, contrast: {{kind: categorical, column: knd, classes: [x, y]}}",
         "analyses.g.contrast.column", "kind"),
        (f"{RSA.replace('permute: kind', 'permute: knd')}, {CATEGORY}",
         "analyses.g.test.permute", "kind"),
    ],
)  # fmt: skip
def test_analyses_read_labels(entry: str, path: str, suggestion: str) -> None:
    [(code, at, message, nearest)] = problems(analysis(entry))
    assert (code, at, nearest) == ("P307", path, suggestion)
    assert message.endswith(" is not a label of stimuli.a")


def test_a_column_that_is_no_label_yet_is_told_once() -> None:
    entry = f"{RSA}, {CATEGORY}".replace("kind}", "step}")
    message = "'step' is not a label of stimuli.a; add it to its 'labels' (g needs it)"
    expected = [("P307", "analyses.g.against.m.column", message, None)]
    assert problems(analysis(entry, WORDS)) == expected


def test_a_label_misspelt_in_the_set_is_told_there_only() -> None:
    text = analysis("kind: probe, target: category", WORDS.replace("[category", "[catgory"))
    message = "no column 'catgory' in the stimulus set 'sequences'"
    assert problems(text) == [("P311", "stimuli.a.labels[0]", message, "category")]


def test_a_corrupt_set_has_the_labels_of_its_source() -> None:
    stimuli = {"a": WORDS, "b": "kind: corrupt"}
    loads(spec(stimuli, {"r": "of: b, site: z"}, {"g": "kind: probe, target: form"}))


def test_the_labels_permuted_are_those_asked_about() -> None:
    text = analysis(f"{RSA}, {CATEGORY}".replace("permute: kind", "permute: colour"))
    message = "this test permutes 'colour', but the analysis asks about 'kind'"
    assert problems(text) == [("P308", "analyses.g.test.permute", message, "kind")]
    two = CATEGORY.replace("}}", "}, n: {kind: category, column: colour}}")
    message = "asks about 'colour', but the test permutes 'kind'; "
    message += "give each column an analysis of its own"
    expected = [("P308", "analyses.g.against.n.column", message, None)]
    assert problems(analysis(f"{RSA}, {two}")) == expected


def test_groups_are_stated_or_explicitly_none() -> None:
    loose = PLAIN.replace(", groups: topic", "")
    analyses = {
        "g": f"{RSA}, {CATEGORY}",
        "p": "kind: probe, target: kind",
        "c": "kind: contrast, column: kind, classes: [a, b]",
    }
    [(code, path, message, _)] = problems(spec({"a": loose}, {"r": "site: z"}, analyses))
    assert (code, path) == ("P309", "stimuli.a.groups")
    assert message == (
        "analyses.g, analyses.p, analyses.c permute, hold out or count stimuli and must know which "
        "belong together: name a column, or write 'groups: none' if stimuli are independent"
    )
    loads(spec({"a": loose + ", groups: none"}, {"r": "site: z"}, analyses))


@pytest.mark.parametrize(
    ("target", "read"), [("colour", "colour"), ("{kind: position}", "the position")]
)
def test_units_are_chosen_for_what_is_read_out(target: str, read: str) -> None:
    choosing = "kind: selection, column: kind, target: a, methods: {w: {kind: contrast, of: r}}"
    probe = "kind: probe, of: r, features: s, target: "
    analyses = {"s": choosing, "p": probe + target}
    [found] = problems(spec({"a": PLAIN}, {"r": "site: z"}, analyses))
    message = (
        f"'s' chooses units for 'kind', and this probe reads out '{read}': choose units for what "
        "is read out"
    )
    assert found == ("P315", "analyses.p.features", message, None)
    loads(spec({"a": PLAIN}, {"r": "site: z"}, {"s": choosing, "p": probe + "kind"}))


def test_a_probe_cannot_hold_out_what_it_predicts() -> None:
    [(code, path, message, _)] = problems(
        analysis("kind: probe, target: kind", PLAIN.replace("topic", "kind"))
    )
    assert (code, path) == ("P313", "analyses.g.target")
    assert message == (
        "'kind' is also the 'groups' of stimuli.a: a fold would hold out whole classes, "
        "which a probe could then not have learnt"
    )


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("layer", "'layer' is a name that results use themselves; rename the column"),
        ("model_rdm", "'model_rdm' is a name that results use themselves; rename the column"),
        ("a/b", "'a/b' cannot name a variable of a netCDF file"),
        ("kind", "the label 'kind' is given twice"),
    ],
)
def test_labels_have_names_that_a_result_can_hold(label: str, message: str) -> None:
    text = spec({"a": PLAIN.replace("colour", label)})
    assert problems(text) == [("P310", "stimuli.a.labels[1]", message, None)]


@pytest.mark.parametrize(
    ("old", "new", "path", "column", "suggestion"),
    [
        ("{prompt}", "{promt}", "text", "promt", "prompt"),
        ("{next}", "{nxt}", "answer.correct", "nxt", "next"),
        ("{last}", "{lst}", "answer.foil", "lst", "last"),
        ("groups: template", "groups: templates", "groups", "templates", "template"),
        ("groups: template", "groups: template, id: idd", "id", "idd", "id"),
        ("groups: template", "groups: template, slots: [s1, s9]", "slots[1]", "s9", None),
        ("[category, form]", "[category, shape]", "labels[1]", "shape", None),
    ],
)
def test_columns_of_a_builtin_set_exist(
    old: str, new: str, path: str, column: str, suggestion: str | None
) -> None:
    [(code, at, message, nearest)] = problems(spec({"a": WORDS.replace(old, new)}))
    assert (code, at) == ("P311", f"stimuli.a.{path}")
    assert message == f"no column {column!r} in the stimulus set 'sequences'"
    assert nearest == suggestion


@pytest.mark.parametrize(
    ("keep", "answer", "code", "path", "message"),
    [
        ("correct", "", "P304", "", "'keep_if' needs an answer, and 'a' has no 'answer'"),
        ("p > 2 * p_foil", "answer: {correct: ' {t}'},", "P305", "",
         "'p_foil' needs a foil, and stimuli.a.answer has none"),
        ("correct > 1", "answer: {correct: ' {t}'},", "P312", "",
         "false and the number 1 cannot be compared"),
        ("rank", "answer: {correct: ' {t}'},", "P312", "", "expected true or false"),
        ("{holds: correct, together: [tt]}", "answer: {correct: ' {t}'},", "P311", ".together[0]",
         "no column 'tt' in these items"),
        ("logit_dif > 1", "answer: {correct: ' {t}'},", "P311", "",
         "no column 'logit_dif' in what a clean run measures"),
    ],
)  # fmt: skip
def test_what_the_model_is_asked_for_can_be_answered(
    keep: str, answer: str, code: str, path: str, message: str
) -> None:
    text = spec({"a": f"kind: items, text: '{{t}}', {answer} items: [{{t: x}}], keep_if: {keep}"})
    [(found, at, told, _)] = problems(text)
    assert (found, at) == (code, f"stimuli.a.keep_if{path}")
    assert message in told


def test_a_foil_may_be_another_option() -> None:
    answer = "answer: {correct: A, options: [A, B]}, keep_if: p > p_foil"
    loads(spec({"a": f"kind: items, text: '{{t}}', items: [{{t: x}}], {answer}"}))


@pytest.mark.parametrize(
    ("condition", "code", "message"),
    [
        ("s1 == clean_s1 and tokens != clean_tokens and category == 'months'", None, ""),
        ("s9 == s1", "P311", "no slot or column 's9' in stimuli.a"),
        ("s1 ==", "P312", "expected a value, got the end"),
    ],
)
def test_what_rejects_a_corruption_is_of_its_origin(
    condition: str, code: str | None, message: str
) -> None:
    text = spec({"a": WORDS, "b": f'kind: corrupt, of: a, reject_if: "{condition}"'})
    found = problems(text) if code else loads(text) and []
    assert [(c, at) for c, at, *_ in found] == ([(code, "stimuli.b.reject_if")] if code else [])
    assert all(message in told for _, _, told, _ in found)


def test_columns_of_items_exist() -> None:
    text = spec({"a": "kind: items, text: '{b}', items: [{a: 1}, {a: 2}]"})
    assert problems(text) == [("P311", "stimuli.a.text", "no column 'b' in these items", None)]


def test_items_have_the_same_columns() -> None:
    text = spec({"a": "kind: items, text: '{ab}', items: [{ab: 1, c: 2}, {abb: 1, c: 2}, {ab: 1}]"})
    extra = "this item has a column 'abb', unlike the first item"
    lacking = "this item lacks the column 'c', unlike the first item"
    assert problems(text) == [
        ("P311", "stimuli.a.items[1]", extra, "ab"),
        ("P311", "stimuli.a.items[2]", lacking, None),
    ]


def test_items_hold_finite_numbers() -> None:
    text = spec({"a": "kind: items, text: '{b}', items: [{b: .nan}]"})
    message = "expected a finite number, got nan; quote it if it is a word"
    assert problems(text) == [("P205", "stimuli.a.items[0].b", message, None)]


def test_templates_are_read_before_any_stimulus() -> None:
    text = spec({"a": PLAIN.replace("{t}", "{t").replace("[kind", "[kind")})
    message = "a single '{' in '{t'; write '{{' for a brace"
    assert problems(text) == [("P312", "stimuli.a.text", message, None)]


FREE = {"stimuli": {"source", "share"}, "analyses": {"of", "partial"}}
"""Names that stand for something beside them in the same entry, not for another entry."""


def test_every_field_of_a_name_is_a_reference() -> None:
    """A field that holds a name and is not marked would never be checked."""
    unmarked = {
        (str(path[0]), key)
        for path, model in models_by_path(spec_model())
        for key, field in fields(model).items()
        if path and _is_name(field) and key not in marked(model)
    }
    assert unmarked <= {(section, key) for section, keys in FREE.items() for key in keys}
    assert marked(Capture)["of"][1] == Ref("stimuli", "rows")
    assert marked(Mean)["mean_over"][1] == Ref("stimuli", "rows")


def _is_name(field: Any) -> bool:
    return any(getattr(m, "pattern", None) for m in _metadata(field.annotation)) or any(
        getattr(m, "pattern", None) for m in field.metadata
    )


def test_every_column_of_an_analysis_is_a_label() -> None:
    """So is a field called `column` or `permute` of any new kind."""
    for path, model in models_by_path(spec_model()):
        for key in fields(model):
            if path[:1] == ("analyses",) and key in ("column", "permute", "by"):
                assert isinstance(marked(model)[key][1], Label), (model, key)
