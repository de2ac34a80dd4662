"""P3xx explained: what entries of a spec say of one another."""

from __future__ import annotations

from patchclamp.specs.explanation import Explanation

REFERENCES = (
    Explanation(
        "P301",
        what="A key names an entry that the spec does not have.",
        why="An analysis of a set that is not there must not run on another one instead.",
        fix="take the proposed name, or add the entry.",
        wrong="""
            captures:
              resid: {of: wrods, site: resid_post}
            """,
        right="""
            captures:
              resid: {of: words, site: resid_post}
            """,
    ),
    Explanation(
        "P302",
        what="A reference is left out, and there is not exactly one entry it could mean.",
        why="""A reference may be left out where there is no choice. With two sets, taking the
        first one would change the experiment when the entries are sorted.""",
        fix="write the reference; the message lists the candidates.",
        wrong="""
            stimuli:
              easy: {kind: csv, path: easy.csv, text: "{text}"}
              hard: {kind: csv, path: hard.csv, text: "{text}"}
            captures:
              resid: {site: resid_post}
            """,
        right="""
            stimuli:
              easy: {kind: csv, path: easy.csv, text: "{text}"}
              hard: {kind: csv, path: hard.csv, text: "{text}"}
            captures:
              resid: {of: hard, site: resid_post}
            """,
    ),
    Explanation(
        "P303",
        what="A set of kind `corrupt` is made from one that has no slots, that is corrupt itself, "
        "or from itself.",
        why="""Corruption rearranges the columns named as slots and leaves the rest of the text
        alone; without slots both sets would be the same.""",
        fix="name a set with rows of its own, and list in its `slots` what may be rearranged.",
        wrong="""
            stimuli:
              words: {kind: items, text: "{a} {b}", items: [{a: one, b: two}]}
              scrambled: {kind: corrupt, of: words}
            """,
        right="""
            stimuli:
              words: {kind: items, text: "{a} {b}", slots: [a, b], items: [{a: one, b: two}]}
              scrambled: {kind: corrupt, of: words}
            """,
    ),
    Explanation(
        "P304",
        what="A metric reads the right answer, and the stimulus set has none.",
        why="Without an answer nothing says which next token would have been right.",
        fix="give the set an `answer`: a template over its columns, with its leading space.",
        wrong="""
            stimuli:
              words: {kind: items, text: "{a}", items: [{a: one, next: two}]}
            analyses:
              heads: {kind: ablation, stimuli: words, units: {site: z}, metric: {kind: logprob}}
            """,
        right="""
            stimuli:
              words:
                kind: items
                text: "{a}"
                answer: {correct: " {next}"}
                items: [{a: one, next: two}]
            analyses:
              heads: {kind: ablation, stimuli: words, units: {site: z}, metric: {kind: logprob}}
            """,
    ),
    Explanation(
        "P305",
        what="A metric compares the right answer with a foil, and the stimulus set has no foil.",
        why="""A logit by itself has no zero point; only the difference from a chosen wrong answer
        says what the model prefers, and the choice of that answer is part of the question.""",
        fix="add `foil` to the answer, or take a metric that needs none.",
        wrong="""
            stimuli:
              words:
                kind: items
                text: "{a}"
                answer: {correct: " {next}"}
                items: [{a: one, next: two, last: one}]
            analyses:
              heads: {kind: ablation, units: {site: z}, metric: {kind: logit_diff}}
            """,
        right="""
            stimuli:
              words:
                kind: items
                text: "{a}"
                answer: {correct: " {next}", foil: " {last}"}
                items: [{a: one, next: two, last: one}]
            analyses:
              heads: {kind: ablation, units: {site: z}, metric: {kind: logit_diff}}
            """,
    ),
    Explanation(
        "P306",
        what="A share (`share: true`) is asked of a metric whose zero does not mean no effect.",
        why="""A share is a quotient. Log-probabilities are negative and their zero is certainty, so
        a percentage of a clean baseline flips its sign and means nothing.""",
        fix="leave `share` out, or take a metric with a meaningful zero such as logit_diff.",
        wrong="""
            analyses:
              heads: {kind: ablation, units: {site: z}, metric: {kind: logprob}, share: true}
            """,
        right="""
            analyses:
              heads: {kind: ablation, units: {site: z}, metric: {kind: logit_diff}, share: true}
            """,
    ),
    Explanation(
        "P307",
        what="An analysis names a label that its stimulus set does not keep.",
        why="""Only the columns listed in `labels` travel with the activations; another one could
        not be matched to them afterwards.""",
        fix="add the column to the `labels` of the set, or name one of its labels.",
        wrong="""
            analyses:
              decode: {kind: probe, target: step}
            """,
        right="""
            analyses:
              decode: {kind: probe, target: form}
            """,
    ),
    Explanation(
        "P308",
        what="The test permutes another label than the one the analysis asks about.",
        why="""The null hypothesis is that the labels in question do not matter. Permuting others
        leaves the effect in the null distribution and gives a p for a question nobody asked.""",
        fix="permute the column of the contrast or model RDM; one analysis for each column.",
        wrong="""
            analyses:
              geometry:
                kind: rsa
                contrast: {kind: discriminative, column: category}
                test: {permute: form}
            """,
        right="""
            analyses:
              geometry:
                kind: rsa
                contrast: {kind: discriminative, column: category}
                test: {permute: category}
            """,
    ),
    Explanation(
        "P309",
        what="An analysis holds stimuli out, permutes or counts them, and nothing says which "
        "belong together.",
        why="""Stimuli made from one template or about one topic are near copies. Split over folds,
        the probe has seen the test items; permuted freely or counted as so many samples, they
        make p too small.""",
        fix="name the column in `groups`, or write `groups: none` if stimuli are independent.",
        wrong="""
            stimuli:
              words: {kind: builtin, set: sequences, text: "{prompt}", labels: [category]}
            analyses:
              decode: {kind: probe, target: category}
            """,
        right="""
            stimuli:
              words:
                kind: builtin
                set: sequences
                text: "{prompt}"
                labels: [category]
                groups: template
            analyses:
              decode: {kind: probe, target: category}
            """,
    ),
    Explanation(
        "P310",
        what="A label has the name of a dim or coordinate that results use themselves.",
        why="Two meanings under one name: `layer` of a result would be your column, or the layer.",
        fix="rename the column in the stimulus file and in the spec.",
        wrong="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{word}", labels: [layer]}
            """,
        right="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{word}", labels: [depth]}
            """,
    ),
    Explanation(
        "P311",
        what="A template or a key names a column that the stimulus set does not have.",
        why="The text shown to the model would lack a piece, or hold the braces themselves.",
        fix="take one of the columns that the message lists.",
        wrong="""
            stimuli:
              words: {kind: builtin, set: sequences, text: "{promt}"}
            """,
        right="""
            stimuli:
              words: {kind: builtin, set: sequences, text: "{prompt}"}
            """,
    ),
    Explanation(
        "P312",
        what="A template has a brace that is not closed, or something in braces that is no column.",
        why="Templates only put columns in; anything else in braces would be shown to the model.",
        fix="close the brace; a brace that is meant is written twice, `{{`.",
        wrong="""
            stimuli:
              words: {kind: builtin, set: sequences, text: "{prompt"}
            """,
        right="""
            stimuli:
              words: {kind: builtin, set: sequences, text: "{prompt}"}
            """,
    ),
    Explanation(
        "P313",
        what="A probe reads out the very column that groups its folds.",
        why="""A fold holds whole groups out. Where groups are classes, the probe is tested on
        classes it has never seen, and its accuracy is zero for a reason of its own making.""",
        fix="read out another label, or group by what items share besides their class.",
        wrong="""
            stimuli:
              words:
                kind: builtin
                set: sequences
                text: "{prompt}"
                labels: [category]
                groups: category
            analyses:
              decode: {kind: probe, target: category}
            """,
        right="""
            stimuli:
              words:
                kind: builtin
                set: sequences
                text: "{prompt}"
                labels: [category]
                groups: template
            analyses:
              decode: {kind: probe, target: category}
            """,
    ),
    Explanation(
        "P314",
        what="Entries need each other in a circle, so that none of them can be computed first.",
        why="An analysis works on the finished result of those it names.",
        fix="follow the circle that the message shows, and break it where it was not meant.",
        wrong="""
            interventions:
              push: {kind: add, vector: push_effect}
            analyses:
              push_effect: {kind: steering, with: [push], metric: {kind: logprob}}
            """,
        right="""
            interventions:
              push: {kind: add, vector: decode}
            analyses:
              decode: {kind: probe, target: category}
              push_effect: {kind: steering, with: [push], metric: {kind: logprob}}
            """,
    ),
    Explanation(
        "P315",
        what="A probe takes units that a selection chooses for another label than it reads out.",
        why="""Units are chosen anew in every training part and for every permuted labelling, so
        the choice and the probe must be about the same labels: permuting those of one would leave
        the other as it was.""",
        fix="choose units for what is read out, or leave 'features' out.",
        wrong="""
            analyses:
              select: {kind: selection, column: form, target: word,
                methods: {welch: {kind: contrast, of: resid}}}
              decode: {kind: probe, of: resid, features: select, target: category}
            """,
        right="""
            analyses:
              select: {kind: selection, column: form, target: word,
                methods: {welch: {kind: contrast, of: resid}}}
              decode: {kind: probe, of: resid, features: select, target: form}
            """,
    ),
)
"""P3xx, in order."""
