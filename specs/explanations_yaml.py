"""P1xx explained: what makes a file unreadable as YAML, or read differently by two readers."""

from __future__ import annotations

from patchclamp.specs.explanation import Explanation

YAML = (
    Explanation(
        "P101",
        what="A byte of the file is not UTF-8 text; the editor saved it in another encoding.",
        why="""In the wrong encoding an accent or a quotation mark becomes other characters, and
        the model would be shown a stimulus that nobody wrote.""",
        fix="save the file as UTF-8; most editors offer it under 'Save with encoding'.",
        wrong="description: café          # saved as Latin-1, where é is the single byte 0xe9",
        right="description: café          # saved as UTF-8",
    ),
    Explanation(
        "P102",
        what="""The file holds a control character, half a surrogate pair, or a line break that
        only some readers know; or an escape in double quotes asks for one of them.""",
        why="""Such characters are invisible in editors and cannot be kept in a result file, so
        nobody could see or reproduce what the model was shown.""",
        fix='delete the character; a wanted one is written as an escape such as "\\t".',
        wrong=r'description: "where \0 is it?"',
        right="description: where is it?",
    ),
    Explanation(
        "P103",
        what="The text breaks a rule of YAML, so that it cannot be read on from here.",
        why="A guess at what was meant would run another experiment than the one that was written.",
        fix="""look at the marked place and the line before it: text with ': ' needs quotes,
        brackets and quotes are closed, the keys of one mapping start in the same column.""",
        wrong="description: first question: where?",
        right='description: "first question: where?"',
    ),
    Explanation(
        "P104",
        what="A line is indented by a tab.",
        why="""YAML indents by spaces only: how wide a tab is differs between editors, so what
        stands below what could not be told.""",
        fix="replace the tab by two spaces; most editors can do so for a whole file.",
        wrong="captures:\n\tresid: {site: resid_post}",
        right="captures:\n  resid: {site: resid_post}",
    ),
    Explanation(
        "P105",
        what="A mapping holds the same key twice.",
        why="""Most YAML readers take the last one and say nothing; the value above it, which may
        be the one you look at, would silently count for nothing.""",
        fix="delete one of the two, or give it a name of its own.",
        wrong="""
            captures:
              resid: {site: resid_post, layers: all}
              resid: {site: resid_pre, layers: last}
            """,
        right="""
            captures:
              resid: {site: resid_post, layers: all}
              before: {site: resid_pre, layers: last}
            """,
    ),
    Explanation(
        "P106",
        what="A value carries a YAML tag, such as `!!int` or `!python/name:os.system`.",
        why="""Tags can run code in some readers. A spec is data: a spec from a stranger is safe to
        check, and says the same thing to every reader.""",
        fix="delete the tag; the grammar knows the type of each value.",
        wrong='seed: !!int "3"',
        right="seed: 3",
    ),
    Explanation(
        "P107",
        what="A mapping takes over the keys of another through `<<`.",
        why="""Merge keys are not part of YAML 1.2, and readers disagree on which key wins; the
        same file would mean different experiments.""",
        fix="write the keys out.",
        wrong="""
            captures:
              early: &shared {site: resid_post, positions: last}
              late: {<<: *shared, layers: last}
            """,
        right="""
            captures:
              early: {site: resid_post, positions: last}
              late: {site: resid_post, positions: last, layers: last}
            """,
    ),
    Explanation(
        "P108",
        what="An alias (`*name`) stands within the value it repeats, or aliases of aliases expand "
        "to more values than a spec can need.",
        why="Nine lines of YAML can ask for hundreds of millions of values and fill any memory.",
        fix="write the value out where it is needed.",
        wrong="description: &text [*text]",
        right="description: where do they separate?",
    ),
    Explanation(
        "P109",
        what="Lists or mappings are nested more than 60 levels deep.",
        why="A spec needs about eight; what is deeper is a slip or an attack on the reader.",
        fix="look for a bracket that is opened again and again.",
        wrong=f"description: {'[' * 61}{']' * 61}",
        right="description: where do they separate?",
    ),
    Explanation(
        "P110",
        what="A line `---` begins a second document in the same file.",
        why="A file is one experiment; one of the two would silently not be run.",
        fix="put each spec into a file of its own.",
        wrong="""
            name: first
            ---
            name: second
            """,
        right="name: first",
    ),
    Explanation(
        "P111",
        what="The file is empty, or holds comments only.",
        why="There is nothing to check, which must not look like a spec that passed.",
        fix="write a spec (`patchclamp init` gives a commented one), or delete the file.",
        wrong="# to be written",
        right="patchclamp: 1",
    ),
    Explanation(
        "P112",
        what="The file holds a list or a single value instead of keys and values.",
        why="Everything in a spec is found by its key.",
        fix="write `key: value` lines, beginning with `patchclamp: 1`.",
        wrong="- seed 0",
        right="seed: 0",
    ),
    Explanation(
        "P113",
        what="A key reads as a number, as `true`, `false` or nothing, or is a list or mapping.",
        why="""Keys are names: of columns, captures, analyses. `1`, `1.0` and `0x1` are one number
        and three names.""",
        fix="put the key in quotes, or choose a name that begins with a letter.",
        wrong="""
            stimuli:
              years: {kind: items, text: "In {year}", items: [{year: "1999", 1: odd}]}
            """,
        right="""
            stimuli:
              years: {kind: items, text: "In {year}", items: [{year: "1999", parity: odd}]}
            """,
    ),
    Explanation(
        "P114",
        what="Text without quotes reads as a number that no computer holds: it overflows to "
        "infinity, underflows to zero, or has more than a thousand digits.",
        why="""It is nearly always a commit hash such as `12e4567`, which YAML takes for
        12 × 10^4567: the run would ask for the revision `inf`.""",
        fix="put it in quotes; `validate --fix` does so where text is wanted.",
        wrong="model: {id: owner/name, revision: 12e4567}",
        right='model: {id: owner/name, revision: "12e4567"}',
    ),
)
"""P1xx, in order."""
