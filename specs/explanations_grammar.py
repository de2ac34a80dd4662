"""P2xx explained: keys and values that the grammar does not know."""

from __future__ import annotations

from patchclamp.specs.explanation import Explanation

GRAMMAR = (
    Explanation(
        "P201",
        what="A key that has no default is missing.",
        why="""It has no default because no choice would be right for everybody; a silent one
        would decide your experiment for you.""",
        fix="write the key; `patchclamp explain` with the section and kind lists what it may hold.",
        wrong="""
            captures:
              resid: {layers: all}
            """,
        right="""
            captures:
              resid: {site: resid_post, layers: all}
            """,
    ),
    Explanation(
        "P202",
        what="A key is not known here: it is misspelt, at the wrong level, or of another kind.",
        why="""Ignored, it would leave its default in force: the run would look as if it had been
        asked for, with other layers, other folds or no control.""",
        fix="""take the proposed name, or move the key to where the message says it belongs;
        `validate --fix` mends clear slips.""",
        wrong="""
            captures:
              resid: {site: resid_post, layer: last}
            """,
        right="""
            captures:
              resid: {site: resid_post, layers: last}
            """,
    ),
    Explanation(
        "P203",
        what="A value is of another type than the key takes: text for a number, one value for a "
        "list.",
        why="""Nothing is converted: `"3"`, `3` and `[3]` look alike, and a reader that makes them
        the same also takes `no` for false and `1e-4` for text.""",
        fix="write the expected type; the message says which, and whether quotes are the matter.",
        wrong='seed: "3"',
        right="seed: 3",
    ),
    Explanation(
        "P204",
        what="A value is not one of those that the key knows.",
        why="Names of sites, metrics and options are closed lists, so that a slip cannot pass.",
        fix="take one of the allowed values; `patchclamp list` says what each name means.",
        wrong="""
            captures:
              resid: {site: resid_pst}
            """,
        right="""
            captures:
              resid: {site: resid_post}
            """,
    ),
    Explanation(
        "P205",
        what="A number is too small or too large, or a text or list too short or too long.",
        why="""Limits are where a value stops making sense: one fold holds nothing out, and ten
        permutations cannot reach p = 0.05.""",
        fix="choose a value within the limits that the message gives.",
        wrong="""
            analyses:
              decode: {kind: probe, target: category, cv: {folds: 1}}
            """,
        right="""
            analyses:
              decode: {kind: probe, target: category, cv: {folds: 5}}
            """,
    ),
    Explanation(
        "P206",
        what="A name has characters that names may not have.",
        why="""Names become groups of the result file, folders and paths of overrides, where
        spaces, dots and capitals are lost or ambiguous.""",
        fix="use lower-case letters, digits and `_`, beginning with a letter.",
        wrong="""
            captures:
              Residual Stream: {site: resid_post}
            """,
        right="""
            captures:
              residual_stream: {site: resid_post}
            """,
    ),
    Explanation(
        "P207",
        what="An entry does not say its `kind`, or names one that does not exist.",
        why="The kind decides which keys an entry has; without it nothing in it can be checked.",
        fix="write `kind:` with one of the kinds that the message lists.",
        wrong="""
            stimuli:
              words: {kind: cvs, path: words.csv, text: "{word}"}
            """,
        right="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{word}"}
            """,
    ),
    Explanation(
        "P208",
        what="Values are fine one by one and contradict each other, or a short form cannot be "
        "read.",
        why="""One of the two would have to be ignored, and nothing says which: an analysis that
        compares and contrasts answers two questions under one name.""",
        fix="read the message: it says which of the values goes, or how the short form is written.",
        wrong="""
            captures:
              resid: {site: resid_post, layers: 2..0}
            """,
        right="""
            captures:
              resid: {site: resid_post, layers: 0..2}
            """,
    ),
    Explanation(
        "P209",
        what="The grammar version is missing, or one that this patchclamp does not read.",
        why="""The version fixes what every other key means. Without it a spec could change its
        meaning when patchclamp is updated.""",
        fix="begin the file with `patchclamp: 1`, or install the version that reads the file.",
        wrong="patchclamp: 99",
        right="patchclamp: 1",
    ),
)
"""P2xx, in order."""
