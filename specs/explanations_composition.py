"""P5xx explained: specs made of several files, overrides and matrices."""

from __future__ import annotations

from patchclamp.specs.explanation import Explanation

COMPOSITION = (
    Explanation(
        "P501",
        what="A spec extends a base that is neither a file nor the name of a shipped spec.",
        why="Without its base a spec is another experiment, with defaults in place of choices.",
        fix="correct the path; it counts from the folder of the file that it stands in.",
        wrong="extends: [quikstart]",
        right="extends: [quickstart]",
    ),
    Explanation(
        "P502",
        what="Specs extend each other in a circle.",
        why="A base is what was there before; in a circle nothing is first, and nothing wins.",
        fix="move what both share into a base of its own.",
        wrong="extends: [spec.yaml]       # and this file is spec.yaml itself",
        right="extends: [quickstart]",
    ),
    Explanation(
        "P503",
        what="More than 20 specs extend each other in a row.",
        why="Nobody could say any more which file a value comes from.",
        fix="put bases together; `show --origin` says where each value comes from.",
        wrong="extends: [base_1.yaml]     # which extends base_2.yaml, and so on, twenty times",
        right="extends: [quickstart]",
    ),
    Explanation(
        "P504",
        what="An override (`--set`) is not `path=value`, or its value cannot be read.",
        why="An override that is dropped would run the spec as it stands under another name.",
        fix="write the path, `=` and the value as YAML has it in one line; quote it for the shell.",
        wrong="name: first            # patchclamp validate spec.yaml --set model.dtype",
        right="name: first            # patchclamp validate spec.yaml --set model.dtype=float16",
    ),
    Explanation(
        "P505",
        what="A path of an override or a matrix is badly written, leads through a value that has "
        "no keys, or names what may not vary.",
        why="""Names, descriptions and claims belong to the whole spec: cells that differ in them
        would compute the same.""",
        fix="write the keys from the top of the spec, with dots: `analyses.decode.cv.folds`.",
        wrong="""
            matrix:
              grid: {name: [small, large]}
            """,
        right="""
            matrix:
              grid: {model.dtype: [float32, bfloat16]}
            """,
    ),
    Explanation(
        "P506",
        what="Two paths set the same value, or one sets what the other is a part of.",
        why="Which of them wins would depend on the order in which they are read.",
        fix="keep one of them.",
        wrong="""
            matrix:
              grid:
                model: [bundled:sequences]
                model.revision: [step0, step400]
            """,
        right="""
            matrix:
              grid:
                model.revision: [step0, step400]
            """,
    ),
    Explanation(
        "P507",
        what="The lists of a `zip` have different lengths.",
        why="They go together value by value; the longer one would lose its end.",
        fix="make them equally long, or write `grid` if every value meets every other.",
        wrong="""
            matrix:
              zip: {model.revision: [step0, step400, main], seed: [0, 1]}
            """,
        right="""
            matrix:
              zip: {model.revision: [step0, step400, main], seed: [0, 1, 2]}
            """,
    ),
    Explanation(
        "P508",
        what="A matrix gives the same value twice.",
        why="""Both cells would hold the same numbers, and a spread over them would be too
        small.""",
        fix="delete one of the two.",
        wrong="""
            matrix:
              grid: {seed: [0, 1, 1]}
            """,
        right="""
            matrix:
              grid: {seed: [0, 1, 2]}
            """,
    ),
    Explanation(
        "P509",
        what="An `exclude` matches no cell.",
        why="The cell that was meant to be left out would be run.",
        fix="take paths and values that the matrix has.",
        wrong="""
            matrix:
              grid: {seed: [0, 1], model.revision: [step0, main]}
              exclude: [{seed: 2}]
            """,
        right="""
            matrix:
              grid: {seed: [0, 1], model.revision: [step0, main]}
              exclude: [{seed: 1, model.revision: step0}]
            """,
    ),
    Explanation(
        "P510",
        what="A matrix has more cells than can be run, or all of them are excluded.",
        why="Lists of a grid multiply: four lists of ten values are ten thousand runs.",
        fix="sweep fewer paths at once, or take values together with `zip`.",
        wrong="""
            matrix:
              grid: {seed: [0, 1]}
              exclude: [{seed: [0, 1]}]
            """,
        right="""
            matrix:
              grid: {seed: [0, 1]}
            """,
    ),
    Explanation(
        "P511",
        what="Two cells of a matrix differ only in what does not decide the numbers.",
        why="""Device, batch size and names change no result. Two equal results side by side would
        look like a replication.""",
        fix="sweep a key that decides the numbers; run on another device with `--set`.",
        wrong="""
            matrix:
              grid: {run.device: [cpu, cuda]}
            """,
        right="""
            matrix:
              grid: {seed: [0, 1]}
            """,
    ),
    Explanation(
        "P512",
        what="Many cells of a matrix have problems, and the rest was not looked at.",
        why="One mistake in what cells share shows in each of them; a thousand reports hide it.",
        fix="mend what is reported, and check again.",
        wrong=f"""
            matrix:
              grid: {{seed: {list(range(-22, 0))}}}
            """,
        right="""
            matrix:
              grid: {seed: [0, 1, 2]}
            """,
    ),
)
"""P5xx, in order."""
