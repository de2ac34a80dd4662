"""P6xx explained: what is valid, and what a careful reader would still ask about."""

from __future__ import annotations

from patchclamp.specs.explanation import Explanation

LINTS = (
    Explanation(
        "P600",
        what="A lint is allowed that does not fire in this spec.",
        why="""What it was written for has been mended, or stands elsewhere. Left there, it would
        hide the next one.""",
        fix="take the line out.",
        wrong="""
            analyses: {decode: {kind: probe, target: category}}
            allow: {P607: "the controls are in another study"}
            """,
        right="""
            analyses: {decode: {kind: probe, target: category, controls: []}}
            allow: {P607: "the controls are in another study"}
            """,
    ),
    Explanation(
        "P601",
        what="Patterns are averaged by the label that the model RDM or the contrast is about.",
        why="""One pattern is left of each class, so no pair is within a class: the model RDM is 1
        everywhere off its diagonal, and there is nothing to correlate with or to compare.""",
        fix="leave `average_by` out, or average by another label, such as the template.",
        wrong="""
            analyses:
              geometry:
                kind: rsa
                rdm: {average_by: category}
                against: {category: {kind: category, column: category}}
                test: {permute: category}
            """,
        right="""
            analyses:
              geometry:
                kind: rsa
                against: {category: {kind: category, column: category}}
                test: {permute: category}
            """,
    ),
    Explanation(
        "P602",
        what="Heads are fixed, while their layers are percentages or a matrix changes the model.",
        why="""Heads are numbered anew in every layer and every model, in no order: head 3 at 50% of
        a small model and of a large one have nothing in common but their number.""",
        fix="take all heads, or name heads such as `L4H10` of one model.",
        wrong="""
            captures:
              heads: {site: z, layers: [50%], heads: [3]}
            """,
        right="""
            captures:
              heads: {site: z, heads: [L6H3]}
            """,
    ),
    Explanation(
        "P603",
        what="An rsa looks at units that a selection chose, by its label and on its stimuli; or "
        "acting on chosen units is measured on the stimuli that they were chosen on.",
        why="""Of many units that are noise, the best at telling the classes apart do tell them
        apart on the stimuli that they were chosen on. The test does not know of the choice, so
        that an rsa gives no p and no interval then, only the effect, which is too large.""",
        fix="test on stimuli that took no part in the choice, or use a probe, which chooses anew "
        "inside each training part.",
        wrong="""
            analyses:
              select: {kind: selection, column: category, target: months,
                methods: {welch: {kind: contrast, of: resid}}}
              region: {kind: rsa, of: resid, features: select, test: {permute: category},
                contrast: {kind: discriminative, column: category}}
            """,
        right="""
            analyses:
              select: {kind: selection, column: category, target: months,
                methods: {welch: {kind: contrast, of: resid}}}
              region: {kind: probe, of: resid, features: select, target: category}
            """,
    ),
    Explanation(
        "P604",
        what="A claim bounds a number that comes from one seed, and does not look at its interval.",
        why="""Another seed, other folds or a few other stimuli move the number. A bound that it
        passes by a hair is passed by luck.""",
        fix="write `interval: true`, so that the whole interval must meet the claim; or give "
        "several seeds, `seed: [0, 1, 2]`. `near` with `atol` states its own spread.",
        wrong="""
            analyses: {decode: {kind: probe, target: category}}
            expect: [{var: decode/balanced_accuracy, ge: 0.9}]
            """,
        right="""
            analyses: {decode: {kind: probe, target: category}}
            expect: [{var: decode/balanced_accuracy, ge: 0.9, interval: true}]
            """,
    ),
    Explanation(
        "P605",
        what="A model in half precision is asked for crossnobis distances or for Fisher z.",
        why="""Both hang on small differences of large numbers: crossnobis averages around zero,
        and Fisher z grows without bound where patterns are nearly alike. What half precision
        rounds away comes back as an effect.""",
        fix="write `dtype: float32`, the default; or keep the precision of the study that is "
        "repeated, and say so.",
        wrong="""
            model: {id: "bundled:sequences", dtype: bfloat16}
            analyses:
              geometry: {kind: rsa, test: {permute: category},
                contrast: {kind: discriminative, column: category}}
            """,
        right="""
            model: {id: "bundled:sequences", dtype: float32}
            analyses:
              geometry: {kind: rsa, test: {permute: category},
                contrast: {kind: discriminative, column: category}}
            """,
    ),
    Explanation(
        "P606",
        what="RDMs are compared by a cosine, and their distances are not crossvalidated.",
        why="""A cosine is an angle seen from zero. Noise makes every distance larger than zero
        but for crossvalidated ones, so any two RDMs point the same way and look alike.""",
        fix="use the metric `crossnobis`, whose zero means no distance, or compare by `spearman`.",
        wrong="""
            analyses:
              geometry: {kind: rsa, compare: cosine, test: {permute: category},
                against: {category: {kind: category, column: category}}}
            """,
        right="""
            analyses:
              geometry: {kind: rsa, compare: spearman, test: {permute: category},
                against: {category: {kind: category, column: category}}}
            """,
    ),
    Explanation(
        "P607",
        what="A probe or a steering without controls, or a circuit without random ones.",
        why="""A good probe reads a label out of shuffled data too, any large push changes what a
        model says, and many sets of heads keep its behaviour. The control says how much.""",
        fix="leave the key out, which takes the default controls.",
        wrong="""
            analyses: {decode: {kind: probe, target: category, controls: []}}
            """,
        right="""
            analyses: {decode: {kind: probe, target: category}}
            """,
    ),
    Explanation(
        "P608",
        what="A noise ceiling over seeds or models where there is one.",
        why="A ceiling is how well one repetition predicts the others; one predicts itself.",
        fix="give several, `seed: [0, 1, 2]` or models under `matrix.grid`, or leave "
        "`noise_ceiling` out.",
        wrong="""
            analyses:
              geometry: {kind: rsa, noise_ceiling: seeds, test: {permute: category},
                against: {category: {kind: category, column: category}}}
            """,
        right="""
            analyses:
              geometry: {kind: rsa, noise_ceiling: seeds, test: {permute: category},
                against: {category: {kind: category, column: category}}}
            seed: [0, 1, 2]
            """,
    ),
    Explanation(
        "P609",
        what="A claim asks for a smaller p than the number of permutations can give.",
        why="""The observed arrangement counts as one of them: p = (k + 1) / (n + 1), so with 99
        permutations p is 0.01 at the least, however strong the effect.""",
        fix="raise `n` (or `shuffles` of a probe), or ask for a p that can be reached.",
        wrong="""
            analyses:
              geometry: {kind: rsa, test: {permute: category, n: 99},
                contrast: {kind: discriminative, column: category}}
            expect: [{var: geometry/p_max, le: 0.001}]
            """,
        right="""
            analyses:
              geometry: {kind: rsa, test: {permute: category, n: 999},
                contrast: {kind: discriminative, column: category}}
            expect: [{var: geometry/p_max, le: 0.001}]
            """,
    ),
    Explanation(
        "P610",
        what="A data set of the hub is named without the commit that is meant.",
        why="""Its owner can change it under its name, and the same spec would then mean other
        stimuli.""",
        fix="give the commit as `revision`; the hub shows it beside the data set's files.",
        wrong="""
            stimuli:
              texts: {kind: hub, dataset: owner/texts, text: "{text}"}
            """,
        right="""
            stimuli:
              texts: {kind: hub, dataset: owner/texts, text: "{text}",
                revision: 5f0c1b2d9a7e4c3b8d6f1a2b3c4d5e6f7a8b9c0d}
            """,
    ),
    Explanation(
        "P611",
        what="Spearman's correlation compares model RDMs of two values and of many.",
        why="""Ties are ranked by their mean, which costs nothing where the model has few values.
        Of two model RDMs the coarser comes out higher, even where the finer one is true (Nili and
        others, 2014).""",
        fix="compare by `rho_a` or `kendall_tau_a`, which count a tie for what it is; or ask of "
        "each model RDM by itself, and leave the two numbers apart.",
        wrong="""
            stimuli: {words: {labels: [category, length]}}
            analyses:
              geometry: {kind: rsa, test: {permute: category}, against: {
                category: {kind: category, column: category},
                length: {kind: continuous, column: category}}}
            """,
        right="""
            analyses:
              geometry: {kind: rsa, compare: rho_a, test: {permute: category}, against: {
                category: {kind: category, column: category},
                length: {kind: continuous, column: category}}}
            """,
    ),
    Explanation(
        "P612",
        what="A text holds something that the tokenizer has no token for.",
        why="""The model reads one and the same token for whatever it is, or none, so that what is
        measured is of another text than the one written. At a position that a spec names, in an
        answer or a span, it is an error.""",
        fix="write the text otherwise, or leave it out by `where`; the token table of "
        "`validate --deep` shows what is read.",
        wrong="""
            stimuli:      # the tokenizer knows no snowman
              words: {kind: items, text: "{word}", items: [{word: "one \u2603"}]}
            """,
        right="""
            stimuli:
              words: {kind: items, text: "{word}", items: [{word: one snowman}]}
            """,
    ),
    Explanation(
        "P613",
        what="The tokenizer puts a mark of its own behind each text, and the model is causal.",
        why="""What is read behind a text, as the next token or an entropy, is then what follows
        the mark, where a text may be over. `last` is refused, since it may mean either.""",
        fix="write `bos: never` in `model.tokenizer`, which puts no marks at all, or take the "
        "tokenizer that the model was trained with.",
        wrong="""
            model: {id: "./ends-with-eos"}
            stimuli:
              words: {kind: items, text: "{word}", items: [{word: one}]}
            """,
        right="""
            model: {id: "./ends-with-eos", tokenizer: {bos: never}}
            stimuli:
              words: {kind: items, text: "{word}", items: [{word: one}]}
            """,
    ),
    Explanation(
        "P614",
        what="Two texts of a set differ, and the tokenizer makes the same tokens of them.",
        why="""The model cannot tell them apart: where their labels differ there is nothing to be
        found, and where they are in two groups, what is tested on was learnt from.""",
        fix="leave one of them out, or take a model whose tokenizer tells them apart.",
        wrong="""
            model: bert-base-uncased
            stimuli:
              words: {kind: items, text: "{word}", items: [{word: may}, {word: May}]}
            """,
        right="""
            model: bert-base-cased
            stimuli:
              words: {kind: items, text: "{word}", items: [{word: may}, {word: May}]}
            """,
    ),
)
"""P6xx, in order."""
