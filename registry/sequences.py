"""The artificial language of the bundled model: items in order, in bare lists and in sentences.

An item is a word of one of five categories. A template fixes everything but the category: the
layout around the items, the index of the first item, and the step from one item to the next.
Filled from a category it gives a prompt that shows four items; the fifth is the answer. A second
task, copying, repeats a random string of letters after a random gap.
"""

from __future__ import annotations

import csv
import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

# fmt: off
CATEGORIES: dict[str, tuple[str, ...]] = {
    "numerals": tuple(str(number) for number in range(1, 31)),
    "number_words": (
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
        "nineteen", "twenty",
    ),
    "months": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September",
        "October", "November", "December",
    ),
    "weekdays": (
        "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
    ),
    "letters": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
}
# fmt: on
# January follows December; nothing follows 30, twenty and Z.
CYCLIC = frozenset({"months", "weekdays"})
STEPS = (1, 2, -1)
FORMS = ("bare", "sentence")
# Items in a prompt: two fix the step, and four leave many orders to shuffle them into.
SHOWN = 4
# Items in the longest list to train on, so that a fifth item is not always the last.
LONGEST = 8

# No name or object is an item (no April, no May), and no frame needs "A" or "I", which are.
# fmt: off
NAMES = (
    "Anna", "Tom", "Mary", "Jack", "Lucy", "Paul", "Emma", "Henry", "Clara", "David", "Sarah",
    "Peter", "Nora", "Oscar", "Helen", "Simon",
)
OBJECTS = (
    "cup", "pen", "hat", "bag", "box", "key", "map", "lamp", "coat", "book", "ring", "ball",
    "rope", "bell", "fork", "plate",
)
# fmt: on
JOINERS = (" ", ", ", "; ", " / ", " then ", " and ")
FRAMES = (
    "{name} took the {object} marked {item}.",
    "The {object} from {name} says {item}.",
    "{name} wrote {item} on the {object}.",
    "{item} is for {name} and the {object}.",
    "{item}: {name} lost the {object}.",
    "On the {object} {name} saw {item}.",
)

# Of the copying task, the fewest and the most letters: of the string that stands twice, between
# its two places (at random, so that no fixed distance leads to the first), and before it.
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
COPIED = (4, 8)
GAP = (0, 8)
LEAD = (0, 4)

# One template in five is kept from training. Bare templates are few (6 joiners x 7 starts x 3
# steps), and this is the first salt that keeps at least 8 of each step and 3 of each joiner.
HELD_OUT = 5
SPLIT_SALT = "sequences-34"

# The stimulus set: 2 forms x 3 steps x 8 = 48 templates, which start before index 12, where
# the months begin again and the longer categories do not.
STIMULI_SEED = 1
PER_FORM_AND_STEP = 8
ALIGNED = len(CATEGORIES["months"])
WEEK = len(CATEGORIES["weekdays"])


@dataclass(frozen=True)
class Template:
    """A layout with `{}` for each item, the index of the first item, and the step between two."""

    form: str
    layout: str
    start: int
    step: int

    def frame(self) -> str:
        """The layout up to the place of the answer, which is all that a prompt shows of it."""
        return "{}".join(self.layout.split("{}")[: SHOWN + 1]).rstrip()


@dataclass(frozen=True)
class Prompt:
    """A text that shows some items, and the word that continues it."""

    text: str
    shown: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Passage:
    """A text to train on, and the offsets of the words that follow from what is before."""

    text: str
    known: tuple[int, ...]


def items(category: str, *, start: int, step: int, count: int) -> tuple[str, ...]:
    """`count` items of a category from index `start` on; a cyclic category wraps.

    >>> items("weekdays", start=5, step=1, count=3)
    ('Saturday', 'Sunday', 'Monday')
    """
    words = CATEGORIES[category]
    if start not in starts(category, step=step, count=count):
        raise ValueError(
            f"{count} {category} by step {step:+d} do not fit from index {start}: "
            f"there are {len(words)}"
        )
    return tuple(words[(start + place * step) % len(words)] for place in range(count))


def starts(category: str, *, step: int, count: int) -> range:
    """The indexes from which `count` items exist.

    >>> starts("letters", step=-1, count=5)
    range(4, 26)
    """
    size = len(CATEGORIES[category])
    reach = 0 if category in CYCLIC else (count - 1) * step
    return range(max(0, -reach), size - max(0, reach))


def held_out(template: Template) -> bool:
    """Whether a template is kept from training, by a hash of its visible frame, step and start.

    The start counts modulo seven, where weekdays wrap, so that a template is held out in all
    categories or in none.
    """
    return _hashes_to_zero(f"{template.frame()}|{template.start % WEEK}|{template.step}")


def draw_template(
    rng: random.Random, *, form: str, step: int, among: range, evaluate: bool = False
) -> Template:
    """A random template of one of the splits, which starts at one of the indexes `among`."""
    while True:
        layout = _bare(rng) if form == "bare" else _sentences(rng)
        template = Template(form, layout, rng.choice(among), step)
        if held_out(template) == evaluate:
            return template


def fill(template: Template, category: str) -> Prompt:
    """The prompt that a template gives with the items of a category.

    >>> fill(Template("bare", "{} {} {} {} {}", start=2, step=1), "months")
    Prompt(text='March April May June', shown=('March', 'April', 'May', 'June'), answer='July')
    """
    start = template.start % WEEK if category == "weekdays" else template.start
    *shown, answer = items(category, start=start, step=template.step, count=SHOWN + 1)
    return Prompt(template.frame().format(*shown), tuple(shown), answer)


def draw_prompt(rng: random.Random, *, category: str, form: str, step: int) -> Prompt:
    """A random prompt of the evaluation split."""
    among = starts(category, step=step, count=SHOWN + 1)
    return fill(draw_template(rng, form=form, step=step, among=among, evaluate=True), category)


def draw_passage(rng: random.Random, form: str) -> Passage:
    """A random text of the training split that ends with an item; from the third on, all follow."""
    category, step = rng.choice(tuple(CATEGORIES)), rng.choice(STEPS)
    count = rng.randint(SHOWN + 1, LONGEST) if form == "bare" else SHOWN + 1
    template = draw_template(
        rng, form=form, step=step, among=starts(category, step=step, count=count)
    )
    text, offsets = "", []
    shown = items(category, start=template.start, step=step, count=count)
    for before, item in zip(template.layout.split("{}"), shown, strict=False):
        text += before
        offsets.append(len(text))
        text += item
    return Passage(text, tuple(offsets[2:]))


def draw_copying(rng: random.Random, *, evaluate: bool = False) -> Passage:
    """Random letters in which a string stands twice; the second time, all but its first follow."""
    while True:
        copied, gap, lead = (rng.randint(*bounds) for bounds in (COPIED, GAP, LEAD))
        letters = rng.sample(LETTERS, copied + gap + lead)
        text = " ".join(letters + letters[lead : lead + copied])
        if _hashes_to_zero(text) == evaluate:
            known = tuple(2 * place for place in range(len(letters) + 1, len(letters) + copied))
            return Passage(text, known)


def draw_copying_prompt(rng: random.Random) -> Prompt:
    """A text of the copying task, cut before one of its known letters."""
    passage = draw_copying(rng, evaluate=True)
    cut = rng.choice(passage.known)
    shown = passage.text[:cut].rstrip()
    return Prompt(shown, tuple(shown.split()), passage.text[cut])


def build_stimuli() -> list[dict[str, str]]:
    """The stimulus set `sequences`: 48 held-out templates, each filled from the five categories."""
    rng = random.Random(STIMULI_SEED)
    templates = [
        template
        for form in FORMS
        for step in STEPS
        for template in _distinct_templates(rng, form, step)
    ]
    return [
        _stimulus(f"t{number:02d}", template, category)
        for number, template in enumerate(templates)
        for category in CATEGORIES
    ]


def write_stimuli(file: Path) -> None:
    """Write the stimulus set as a csv file with one row a stimulus."""
    rows = build_stimuli()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def words() -> tuple[str, ...]:
    """Every word and punctuation mark of the language, sorted: each is one token."""
    around = " ".join(FRAMES + JOINERS).format(name="", object="", item="")
    fixed = re.findall(r"\w+|[^\w\s]", around)
    return tuple(sorted({*NAMES, *OBJECTS, *LETTERS, *fixed}.union(*CATEGORIES.values())))


def _bare(rng: random.Random) -> str:
    return rng.choice(JOINERS).join(["{}"] * LONGEST)


def _sentences(rng: random.Random) -> str:
    frame, count = rng.choice(FRAMES), SHOWN + 1
    people, things = rng.sample(NAMES, count), rng.sample(OBJECTS, count)
    return " ".join(
        frame.format(name=name, object=thing, item="{}")
        for name, thing in zip(people, things, strict=True)
    )


def _hashes_to_zero(text: str) -> bool:
    digest = hashlib.sha256(f"{SPLIT_SALT}|{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT == 0


def _distinct_templates(rng: random.Random, form: str, step: int) -> list[Template]:
    """Templates whose prompts differ in every category, weekdays among them."""
    reach = SHOWN * step
    among = range(max(0, -reach), ALIGNED)
    found: dict[tuple[str, int], Template] = {}
    while len(found) < PER_FORM_AND_STEP:
        template = draw_template(rng, form=form, step=step, among=among, evaluate=True)
        found.setdefault((template.frame(), template.start % WEEK), template)
    return list(found.values())


def _stimulus(name: str, template: Template, category: str) -> dict[str, str]:
    prompt = fill(template, category)
    return {
        "id": f"{name}-{category}",
        "template": name,
        "category": category,
        "form": template.form,
        "step": f"{template.step:+d}",
        "prompt": prompt.text,
        **{f"s{place}": item for place, item in enumerate(prompt.shown, start=1)},
        "next": prompt.answer,
        "last": prompt.shown[-1],
    }
