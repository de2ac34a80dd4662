"""P416 to P428 explained: what `validate --deep`, a plan or a lock can tell."""

from __future__ import annotations

from patchclamp.specs.explanation import Explanation

DEEP = (
    Explanation(
        "P416",
        what="A template or a condition has no value for a row, or a loop is no range.",
        why="""A comparison of text with a number, or an item beyond the end of a list, must not
        become an empty text or a row that silently goes.""",
        fix="correct the row that is named, or write number(column) where text spells a number.",
        wrong="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{word}", where: length > 4}
            """,
        right="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{word}", where: number(length) > 4}
            """,
    ),
    Explanation(
        "P417",
        what="There are fewer stimuli, groups or words than are to be taken or held out, or more "
        "rows than can be made, or the same text in several groups of what is held out.",
        why="""With fewer groups than folds some fold would be empty; a class that lies in one
        group is wholly held out with it, and then nothing was learnt about it. A text that stands
        in two groups is tested on where it was learnt.""",
        fix="use fewer folds, take fewer stimuli, or add some.",
        wrong="""
            stimuli:      # words.csv has three rows
              words: {kind: csv, path: words.csv, text: "{word}", take: {n: 100}}
            """,
        right="""
            stimuli:
              words: {kind: csv, path: words.csv, text: "{word}", take: {n: 100, fewer: true}}
            """,
    ),
    Explanation(
        "P418",
        what="A span is not said in a text, is said several times, or shares a token with what "
        "stands beside it; or a position or window lies outside of a text; or an analysis compares "
        "patterns of a capture in which some stimuli lack tokens that others have.",
        why="""An activation read at the wrong token looks like any other. Windows are never filled
        with zeros.""",
        fix="correct the span's template, say which occurrence is meant, or make the window fit.",
        wrong="""
            stimuli:      # "one and one" says it twice
              words: {kind: csv, path: words.csv, text: "{a} and {b}", spans: {item: "{a}"}}
            captures:
              resid: {site: resid_post, positions: item}
            """,
        right="""
            stimuli:
              words:
                kind: csv
                path: words.csv
                text: "{a} and {b}"
                spans: {item: {text: "{a}", occurrence: first}}
            captures:
              resid: {site: resid_post, positions: item}
            """,
    ),
    Explanation(
        "P419",
        what="A model or a data set lies out of reach, so that what hangs on it was not checked.",
        why="""It is a warning: the spec may be right. What was not checked is told, so that
        silence means that it was.""",
        fix="fetch the model once where there is a network, or name a folder.",
        wrong="""
            model: EleutherAI/pythia-70m      # which is not in the local cache
            """,
        right="""
            model: models/pythia-70m
            """,
    ),
    Explanation(
        "P420",
        what="A class that an analysis names is not a value of its column, or the column has not "
        "the values that the analysis works on.",
        why="A contrast with a class that has no stimuli has no value.",
        fix="take one of the values, which the message lists.",
        wrong="""
            captures:
              resid: {site: resid_post}
            analyses:
              tighter:
                kind: rsa
                contrast: {kind: categorical, column: category, classes: [months, weekday]}
                test: {permute: category}
            """,
        right="""
            captures:
              resid: {site: resid_post}
            analyses:
              tighter:
                kind: rsa
                contrast: {kind: categorical, column: category, classes: [months, weekdays]}
                test: {permute: category}
            """,
    ),
    Explanation(
        "P421",
        what="A head, a unit or a node is named that the model does not have, heads of a site that "
        "has none, or something is put at a site where it cannot stand.",
        why="""Heads are counted from 0, and published lists are not always; the list of another
        model names other heads.""",
        fix="count from 0 up to one less than the model has.",
        wrong="""
            captures:      # of a model of 3 layers with 4 heads
              heads: {site: z, heads: [L3H4]}
            """,
        right="""
            captures:
              heads: {site: z, heads: [L2H3]}
            """,
    ),
    Explanation(
        "P422",
        what="A set does not match the clean set whose changed versions its stimuli are.",
        why="""A patch puts the activation of one stimulus in the place of another's; between the
        wrong two, or at shifted tokens, it measures something else.""",
        fix="name the column that holds the ids in both sets, or give both the same rows.",
        wrong="""
            stimuli:      # the two files have other ids
              clean: {kind: csv, path: clean.csv, text: "{t}", answer: {correct: "{a}"}}
              corrupt: {kind: csv, path: corrupt.csv, text: "{t}", partners: {of: clean}}
            """,
        right="""
            stimuli:
              clean: {kind: csv, path: clean.csv, text: "{t}", answer: {correct: "{a}"}, id: pair}
              corrupt: {kind: csv, path: corrupt.csv, text: "{t}", partners: {of: clean}, id: pair}
            """,
    ),
    Explanation(
        "P423",
        what="With --locked, a spec reads something of which its lock has no hash, or has no lock.",
        why="What is not pinned can change under an experiment without anybody's noticing.",
        fix="write the lock with `patchclamp lock SPEC`, and keep it beside the spec.",
        wrong="""
            model: bundled:sequences      # checked with --locked, and never locked
            """,
        right="""
            model: bundled:sequences@main      # after: patchclamp lock spec.yaml
            """,
    ),
    Explanation(
        "P424",
        what="With --locked, the model, the tokenizer, a stimulus set or the spec is another than "
        "when it was locked.",
        why="The same spec would give other numbers; the message says what changed, old and new.",
        fix="bring back what was pinned, or lock again if the change is meant.",
        wrong="""
            seed: 1      # and the lock was written with seed 0
            """,
        right="""
            seed: 0
            """,
    ),
    Explanation(
        "P425",
        what="A run would need more disk or memory than its budget allows; the message names the "
        "largest capture and what it could be instead.",
        why="""It is refused before anything is loaded, and not when the disk is full. Attention
        maps grow with the square of the length: of 500 prompts of 134 tokens an 8B model gives
        18 GB, the last query alone 137 MB.""",
        fix="capture fewer layers or positions, reduce what is captured, or raise the budget.",
        wrong="""
            captures:
              maps: {site: attn_pattern, positions: all}
            run: {budget: {disk: 4GiB}}
            """,
        right="""
            captures:
              maps: {site: attn_pattern, positions: last}
            run: {budget: {disk: 4GiB}}
            """,
    ),
    Explanation(
        "P426",
        what="Two revisions of a sweep have the same weights, bit for bit.",
        why="""Checkpoints on hubs are known to repeat, and a training curve that is flat between
        two of them would look like a finding.""",
        fix="exclude one of the two, or name another revision.",
        wrong="""
            matrix:
              grid: {model.revision: [step0, step1]}      # step1 was uploaded twice
            """,
        right="""
            matrix:
              grid: {model.revision: [step0, step2]}
            """,
    ),
    Explanation(
        "P427",
        what="A server would send more than 64 MiB for a capture, or more than is allowed.",
        why="""Whole activations come over a network that others use too, and mostly a reduction
        was meant, which the server does: the message names it, with its bytes.""",
        fix="capture fewer positions, reduce what is captured, or allow the bytes that are meant.",
        wrong="""
            captures:
              maps: {site: attn_pattern, positions: all}
            run: {backend: ndif}
            """,
        right="""
            captures:
              maps: {site: attn_pattern, positions: all, reduce: column_mean}
            run: {backend: ndif, budget: {download: 1GiB}}
            """,
    ),
    Explanation(
        "P428",
        what="Two values of a label, or of groups, differ only by spaces around them, or a number "
        "is written as text beside one that is not, or as 1 and as 1.0.",
        why="""They would be two classes that look like one, or one that is two, and a test between
        classes would count a slip of the keyboard.""",
        fix="correct the source, or make a column in which they are alike.",
        wrong="""
            stimuli:
              words:
                kind: items
                text: "{word}"
                labels: [sort]
                items: [{word: one, sort: x}, {word: two, sort: "x "}]
            """,
        right="""
            stimuli:
              words:
                kind: items
                text: "{word}"
                labels: [sort]
                items: [{word: one, sort: x}, {word: two, sort: x}]
            """,
    ),
)
