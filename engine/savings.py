"""Savings: how a batch goes through the model under many conditions with the least work.

Each saving is exact. `run: {optimise: false}` takes none, and is what they are compared with.

1. A condition starts at its first changed layer, from what the clean run had there (`streams`).
2. Where it changes late tokens only, the tokens before them keep the keys and values that the clean
   run gave them (`past`), and only the others run.
3. Conditions that start at one layer, or near it where they are small, run side by side, as further
   rows of one pass (`packs`).
4. Only where answers are read is unembedded, and, where no metric needs more, only the tokens that
   they are of (`steps.read_answers_of`).

What a clean run leaves pays for itself or is not kept: its cost, in layers of tokens, is weighed
against what it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

_FEWER = 0.75
"""Share of a batch's tokens that may be left to run for the rest's keys and values to be worth
being copied."""
_PASS = 8
"""What a pass costs in each layer beside its tokens, in tokens: weights are read once a pass. At a
layer of 7 million weights 7 were measured; where there are more threads or a GPU it is more."""
_SPREAD = 0.5
"""Within a pass, tokens of the shortest condition as a share of those of the longest: all rows of
a pass are as long as the longest."""

_TOGETHER = 8
"""Most packs in a session: its clean pass is then an eighth of them or less, and what a failure
loses, or the server's limit of time, is that of a few passes."""


@dataclass(frozen=True)
class Wanted:
    """A condition of some stimuli of a batch.

    `start` is the first layer that it changes, `tokens` how many of the longest stimulus follow
    the first token that it changes, that one included; None means that it may change any.
    """

    number: int
    rows: tuple[int, ...]
    start: int
    tokens: int | None


@dataclass(frozen=True)
class Pack:
    """Conditions that run in one pass, from a layer on, perhaps after tokens that are not run."""

    start: int
    past: bool
    parts: tuple[Wanted, ...]

    def only(self, wanted: Callable[[int, int], bool]) -> Pack:
        """Return the pack of the conditions and stimuli, by number and row, that are wanted."""
        some = [
            replace(part, rows=tuple(row for row in part.rows if wanted(part.number, row)))
            for part in self.parts
        ]
        return replace(self, parts=tuple(part for part in some if part.rows))


@dataclass(frozen=True)
class Sweep:
    """Passes under conditions, and what a clean pass before them must leave."""

    packs: tuple[Pack, ...]

    def only(self, wanted: Callable[[int, int], bool]) -> Sweep:
        """Return the passes of the conditions and stimuli, by number and row, that are wanted."""
        some = (pack.only(wanted) for pack in self.packs)
        return Sweep(tuple(pack for pack in some if pack.parts))

    @property
    def streams(self) -> tuple[int, ...]:
        """Layers whose stream must be left."""
        return tuple(sorted({pack.start for pack in self.packs} - {0}))

    @property
    def past(self) -> bool:
        """Whether keys and values must be left."""
        return any(pack.past for pack in self.packs)

    @property
    def clean(self) -> bool:
        """Whether there must be a clean pass."""
        return bool(self.streams) or self.past

    def work(self, layers: int, length: int, rows: int, *, through: bool = False) -> float:
        """Return how many whole passes of the batch all of this is worth, in layers of tokens.

        `through` says that the clean pass goes through all layers whatever it must leave.
        """
        clean = layers if self.past or through else max(self.streams, default=0)
        total = float(clean * rows * length)
        for pack in self.packs:
            tokens = max(part.tokens or length for part in pack.parts) if pack.past else length
            total += (layers - pack.start) * tokens * sum(len(part.rows) for part in pack.parts)
        return total / (layers * rows * length)


def plain(wanted: Sequence[Wanted]) -> Sweep:
    """Return a sweep that takes no saving: a whole pass for each condition.

    >>> len(plain([Wanted(0, (0, 1), 2, None), Wanted(1, (0, 1), 2, None)]).packs)
    2
    """
    return Sweep(tuple(Pack(0, False, (one,)) for one in wanted))


def sessions_of(sweep: Sweep, *, most: int | None = None) -> tuple[Sweep, ...]:
    """Cut a sweep into sessions, each of which is one request to a server: a clean pass, if its
    packs need one, and they. With `most`, they have no more rows than that in all.

    >>> sweep = plain([Wanted(number, (0, 1), 0, None) for number in range(20)])
    >>> [len(session.packs) for session in sessions_of(sweep)]
    [8, 8, 4]
    >>> [len(session.packs) for session in sessions_of(sweep, most=7)]
    [3, 3, 3, 3, 3, 3, 2]
    """
    sessions: list[list[Pack]] = []
    rows = 0
    for pack in [small for whole in sweep.packs for small in _small(whole, most)]:
        more = sum(len(part.rows) for part in pack.parts)
        full = most is not None and rows + more > most
        if not sessions or len(sessions[-1]) == _TOGETHER or full:
            sessions.append([])
            rows = 0
        sessions[-1].append(pack)
        rows += more
    return tuple(Sweep(tuple(packs)) for packs in sessions)


def _small(pack: Pack, most: int | None) -> list[Pack]:
    """Cut a pack into some of no more rows than `most`."""
    if most is None or sum(len(part.rows) for part in pack.parts) <= most:
        return [pack]
    cut: list[list[Wanted]] = []
    room = 0
    for part in pack.parts:
        rows = part.rows
        while rows:
            if not room:
                cut.append([])
                room = most
            cut[-1].append(replace(part, rows=rows[:room]))
            room, rows = room - len(rows[:room]), rows[room:]
    return [replace(pack, parts=tuple(parts)) for parts in cut]


def sweep_of(
    wanted: Sequence[Wanted], *, layers: int, length: int, budget: int, past: str = "free"
) -> Sweep:
    """Return the passes of a batch whose longest stimulus has `length` tokens.

    `layers` are those of the model, `budget` the most tokens in a pass. `past` says of tokens whose
    keys and values are given that they are `free`, that they count in the budget, `counted`, or
    that keys and values can not be given, `none`.

    >>> wanted = [Wanted(number, (0, 1), number, None) for number in range(4)]
    >>> sweep = sweep_of(wanted, layers=4, length=20, budget=100)
    >>> sweep.streams, [pack.start for pack in sweep.packs]
    ((1, 2, 3), [0, 1, 2, 3])
    """
    few = [one for one in wanted if one.tokens is not None and one.tokens <= _FEWER * length]
    saved = sum((layers - one.start) * (length - (one.tokens or 0)) for one in few)
    late_saves = past != "none" and saved > layers * length
    starts = [one.start for one in wanted]
    # With a clean pass that goes through all layers anyway, what streams save is free.
    skip = late_saves or sum(starts) > max(starts, default=0)
    late = {one.number for one in few} if late_saves else set()
    packs: list[Pack] = []
    for is_late in (False, True):
        members = [one for one in wanted if (one.number in late) == is_late]
        sizes = {one.number: (is_late and one.tokens) or length for one in members}
        for start, of_start in _from(members, layers, sizes).items() if skip else [(0, members)]:
            least = length if past == "counted" else 0
            parts = _parts(of_start, [sizes[one.number] for one in of_start], budget, least=least)
            packs += [Pack(start, is_late, part) for part in parts]
    return Sweep(tuple(packs))


def _from(
    members: Sequence[Wanted], layers: int, sizes: Mapping[int, int]
) -> dict[int, list[Wanted]]:
    """Return conditions by the layer that their pass starts from.

    That is their own, or a lower one where the layers that they then run for nothing cost less
    than a pass of their own.
    """
    found: dict[int, list[Wanted]] = {}
    for start in sorted({one.start for one in members}):
        own = [one for one in members if one.start == start]
        tokens = sum(len(one.rows) * sizes[one.number] for one in own)
        lower = max(found, default=None)
        if lower is not None and (start - lower) * tokens <= (layers - start) * _PASS:
            found[lower] += own
        else:
            found[start] = own
    return found


def _parts(
    members: Sequence[Wanted], sizes: Sequence[int], budget: int, *, least: int = 0
) -> list[tuple[Wanted, ...]]:
    """Cut conditions into passes: within the budget, and of about as many tokens each.

    A row counts at `least` so many tokens.
    """
    order = sorted(range(len(members)), key=lambda i: -sizes[i])
    parts: list[list[Wanted]] = []
    longest, rows = 0, 0
    for i in order:
        more = len(members[i].rows)
        if (
            parts
            and (rows + more) * max(longest, least) <= budget
            and sizes[i] >= _SPREAD * longest
        ):
            parts[-1].append(members[i])
            rows += more
        else:
            parts.append([members[i]])
            longest, rows = sizes[i], more
    return [tuple(part) for part in parts]
