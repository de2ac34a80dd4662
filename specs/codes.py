"""Every code that a diagnostic can have."""

from __future__ import annotations

from typing import NamedTuple

from patchclamp.registry.table import Table

CODES: dict[str, str] = {
    "P101": "the file is not UTF-8 text",
    "P102": "a character that a spec cannot hold",
    "P103": "not YAML",
    "P104": "a tab in the indentation",
    "P105": "a key given twice",
    "P106": "a tag",
    "P107": "a merge key",
    "P108": "an alias that refers to itself or expands without end",
    "P109": "nested too deeply",
    "P110": "several documents in one file",
    "P111": "an empty file",
    "P112": "not a mapping",
    "P113": "a key that is not text",
    "P114": "a number that cannot be held",
    "P201": "a required key is missing",
    "P202": "an unknown key",
    "P203": "a value of the wrong type",
    "P204": "a value that is not among those allowed",
    "P205": "a number or length out of range",
    "P206": "a badly formed name",
    "P207": "a missing or unknown kind",
    "P208": "values that do not go together",
    "P209": "a grammar version that cannot be read",
    "P301": "a name that refers to nothing",
    "P302": "a reference left out that has no single candidate",
    "P303": "a corrupt set of something that cannot be corrupted",
    "P304": "a metric without an answer",
    "P305": "a metric without a foil",
    "P306": "a share of a metric whose zero means nothing",
    "P307": "a column that is not kept as a label",
    "P308": "a test that permutes another column",
    "P309": "groups not stated",
    "P310": "a label name that is taken",
    "P311": "an unknown column",
    "P312": "a template that cannot be read",
    "P313": "a probe whose folds leave whole classes out",
    "P314": "entries that need each other in a circle",
    "P315": "units chosen for something else than they are used for",
    "P316": "something that the backend cannot do",
    "P401": "a stimulus file that cannot be read",
    "P402": "a column that the stimuli lack",
    "P403": "an empty stimulus set",
    "P404": "stimulus ids that are not unique",
    "P405": "stimuli that cannot be corrupted",
    "P406": "an answer that is not one token of its own",
    "P407": "a text that the model cannot read as it is",
    "P408": "a model that cannot be found",
    "P409": "a revision that the model lacks",
    "P410": "a model that cannot be read",
    "P411": "an architecture that is not known",
    "P412": "a layer that the model lacks",
    "P413": "a site that the architecture lacks",
    "P414": "positions without a mean to put in place",
    "P415": "something that is valid and not implemented yet",
    "P416": "a row that a template or condition has no value for",
    "P417": "too few or too many stimuli",
    "P418": "a span or position that a text does not have",
    "P419": "something that cannot be checked here",
    "P420": "a class that does not occur",
    "P421": "a head, unit or node that the model lacks",
    "P422": "partner sets that do not match",
    "P423": "something that is not pinned",
    "P424": "something that is not what was pinned",
    "P425": "a plan over its budget",
    "P426": "revisions of a model that are the same",
    "P427": "activations that a server would send",
    "P428": "labels that are one or two by how they are written",
    "P501": "a base that cannot be read",
    "P502": "specs that extend each other in a circle",
    "P503": "too many specs that extend each other in a row",
    "P504": "an override that cannot be read",
    "P505": "a path that cannot be read or set",
    "P506": "paths that cross",
    "P507": "lists of a zip that differ in length",
    "P508": "a value that a matrix gives twice",
    "P509": "an exclude that matches nothing",
    "P510": "a matrix of too many cells, or of none",
    "P511": "cells that ask the same",
    "P512": "cells that were not looked at",
    "P600": "a lint that is allowed and does not fire",
    "P601": "an RDM averaged by the label that it is asked about",
    "P602": "heads of one layer or model where layers or models vary",
    "P603": "units chosen on the stimuli that they are tested on",
    "P604": "a bound on a number without a spread",
    "P605": "half precision where little differences decide",
    "P606": "a cosine of RDMs that have no zero",
    "P607": "an effect without a control",
    "P608": "a noise ceiling without repetitions",
    "P609": "a claim that a test of this size cannot meet",
    "P610": "a data set that is not pinned",
    "P611": "ranks of model RDMs that have ties",
    "P612": "a text with what the tokenizer does not know",
    "P613": "texts that the tokenizer ends with a mark",
    "P614": "texts that the model reads alike",
}
"""Every code and its title: P1xx YAML, P2xx grammar, P3xx references, P4xx what only data, a
tokenizer or a model's config can tell, P5xx what a spec is composed of, and P6xx lints: warnings
about what is valid and worth a second look."""


class Lint(NamedTuple):
    """A lint that a spec may allow."""

    name: str
    summary: str


LINTS: Table[Lint] = Table(
    "lint", [Lint(code, said) for code, said in CODES.items() if code > "P600"]
)
"""The lints that a spec may allow."""

DEEP = ("P612", "P613", "P614")
"""Lints that only a tokenizer can tell, so that checking a spec alone cannot."""
