"""P4xx explained: what only the stimuli, the tokenizer or the model's config can tell."""

from __future__ import annotations

from patchclamp.specs.explanation import Explanation

DATA = (
    Explanation(
        "P401",
        what="A stimulus file is not there, is not what its kind says, or its rows differ in "
        "their columns.",
        why="A row with a column too few has a value under the wrong heading.",
        fix="correct the path (it counts from the spec's own folder) or the row that is named.",
        wrong="""
            stimuli:
              words: {kind: csv, path: wrods.csv, text: "{word}"}
            """,
        right="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{word}"}
            """,
    ),
    Explanation(
        "P402",
        what="A column that the spec names is not in the stimulus file.",
        why="The text would lack a piece, or a label could not be matched to its stimulus.",
        fix="take one of the file's columns, which the message lists.",
        wrong="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{wrod}"}
            """,
        right="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{word}"}
            """,
    ),
    Explanation(
        "P403",
        what="""A stimulus set has no rows, or none is left: no row meets `where`, or the model says
        to none what `keep_if` asks for.""",
        why="A mean over nothing is no number, and must not become zero.",
        fix="fill the file, name the one that is meant, or ask for less.",
        wrong="""
            stimuli:      # words.csv holds its header line and nothing else
              words: {kind: csv, path: words.csv, text: "{word}"}
            """,
        right="""
            stimuli:
              words: {kind: items, text: "{word}", items: [{word: one}, {word: two}]}
            """,
    ),
    Explanation(
        "P404",
        what="Two stimuli have the same id.",
        why="""Results are matched by id, within a file and between runs; of two stimuli with one
        id, each would be taken for the other.""",
        fix="name another column in `id`, or leave it out: rows are then numbered.",
        wrong="""
            stimuli:
              words: {kind: items, text: "{word}", id: sort, items: [{word: one, sort: n},
                {word: two, sort: n}]}
            """,
        right="""
            stimuli:
              words: {kind: items, text: "{word}", id: word, items: [{word: one, sort: n},
                {word: two, sort: n}]}
            """,
    ),
    Explanation(
        "P405",
        what="""The slots of a stimulus do not stand in its text, or not only as slots; or nothing
        else can be put there: there are too few different values, or `reject_if` allows none.""",
        why="""A corruption that is the stimulus itself, or that changes another word than the slot,
        dilutes its effect unseen: in one published set more than a third of the rows had it.""",
        fix="name slots in the template itself, and more of them, or leave such stimuli out.",
        wrong="""
            stimuli:
              words: {kind: items, text: "{a} {b}", slots: [a, b], items: [{a: one, b: one}]}
              scrambled: {kind: corrupt, of: words}
            """,
        right="""
            stimuli:
              words: {kind: items, text: "{a} {b}", slots: [a, b], items: [{a: one, b: two}]}
              scrambled: {kind: corrupt, of: words}
            """,
    ),
    Explanation(
        "P406",
        what="""An answer is several tokens, changes how the text before it is cut, is the same
        token as its foil, or begins with the tokens of another answer.""",
        why="""A logit belongs to one token. With a piece of a word, or without the leading space,
        the metric reads the logit of something else than the answer; and what begins another
        answer has a probability that holds the other's.""",
        fix="""write the leading space into the answer, and choose words that are one token, or
        score several with `tokens: teacher_forced`.""",
        wrong="""
            stimuli:
              words:
                kind: builtin
                set: sequences
                text: "{prompt}"
                answer: {correct: "{next}", foil: "{next}"}
            """,
        right="""
            stimuli:
              words:
                kind: builtin
                set: sequences
                text: "{prompt}"
                answer: {correct: " {next}", foil: " {last}"}
            """,
    ),
    Explanation(
        "P407",
        what="A text has no tokens, more than the model reads at once, or two BOS tokens.",
        why="""Cut to fit, the last position would be another word than the one asked about; a
        second BOS moves every position by one.""",
        fix="""shorten the text, leave out long ones by `where: tokens <= 512`, or leave the BOS to
        the tokenizer.""",
        wrong="""
            stimuli:
              words: {kind: items, text: "<s>{word}", items: [{word: one}]}
            """,
        right="""
            stimuli:
              words: {kind: items, text: "{word}", items: [{word: one}]}
            """,
    ),
    Explanation(
        "P408",
        what="The model is neither bundled, nor a folder, nor to be had from the hub.",
        why="Nothing is run on a model that merely has a similar name.",
        fix="""check the id; a folder counts from the spec's own folder. A private or gated model of
        the hub needs your key: `hf auth login`, or HF_TOKEN.""",
        wrong="model: bundled:sequence",
        right="model: bundled:sequences",
    ),
    Explanation(
        "P409",
        what="The model has no such revision.",
        why="""A checkpoint is part of the question: another step of the training is another
        model.""",
        fix="take one of the revisions that the message lists; a folder has none.",
        wrong="model: bundled:sequences@step1000",
        right="model: bundled:sequences@step400",
    ),
    Explanation(
        "P410",
        what="The folder or hub entry holds no config, tokenizer or weights that can be read.",
        why="Weights as pickle can run code when they are read, and are refused.",
        fix="convert the model to safetensors, or name the folder that holds `config.json`.",
        wrong="model: .",
        right="model: bundled:sequences",
    ),
    Explanation(
        "P411",
        what="The architecture of the model is not in the table of architectures.",
        why="""A site is a place with a meaning. On an unknown architecture a module of a similar
        name may be something else, such as a stream before its norm.""",
        fix="`patchclamp list architectures` says which are known; choose a model of one of them.",
        wrong="model: google-t5/t5-small",
        right="model: EleutherAI/pythia-70m",
    ),
    Explanation(
        "P412",
        what="A layer is named that the model does not have.",
        why="""Layers count from 0: a model of three has 0, 1 and 2. Left out silently, the result
        would have fewer layers than were asked for.""",
        fix="name layers that exist, or write `all` or `last`.",
        wrong="""
            captures:
              resid: {site: resid_post, layers: 0..12}
            """,
        right="""
            captures:
              resid: {site: resid_post, layers: all}
            """,
    ),
    Explanation(
        "P413",
        what="The architecture of the model has no such site.",
        why="""Where attention and MLP work in parallel, there is no residual stream between them;
        another tensor under that name would answer another question.""",
        fix="take a site that the message lists.",
        wrong="""
            captures:
              resid: {site: resid_mid}
            """,
        right="""
            captures:
              resid: {site: resid_pre}
            """,
    ),
    Explanation(
        "P414",
        what="The stimuli are longer than those of the reference set whose mean per position "
        "stands in.",
        why="""For the positions beyond there is no mean; zeros or the last mean in their place
        would be another intervention at the ends of the longest stimuli.""",
        fix="take a reference set of the same lengths, or `per: all`.",
        wrong="""
            stimuli:
              words: {kind: csv, path: sentences.csv, text: "{text}"}
              short: {kind: csv, path: single_words.csv, text: "{text}"}
            interventions:
              mean: {kind: ablate, value: {mean_over: short, per: position}}
            """,
        right="""
            stimuli:
              words: {kind: csv, path: sentences.csv, text: "{text}"}
              short: {kind: csv, path: single_words.csv, text: "{text}"}
            interventions:
              mean: {kind: ablate, value: {mean_over: short, per: all}}
            """,
    ),
    Explanation(
        "P415",
        what="The spec is valid, and asks for something that this patchclamp cannot do yet.",
        why="""The grammar is ahead of the engine. What is not there is refused by name before
        anything runs, rather than left out of the result.""",
        fix="leave the part out, or install a version that has it.",
        wrong="""
            expect:
              - {var: decode/accuracy, ge: 0.9}
            analyses:
              decode: {kind: probe, target: category}
            """,
        right="""
            analyses:
              decode: {kind: probe, target: category}
            """,
    ),
)
"""P4xx, in order."""
