"""The command `check`: whether results meet what their specs expect of them."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from patchclamp.engine.delivery import deliver
from patchclamp.engine.expectations import Claim, judge
from patchclamp.engine.results import StoredResult, open_result
from patchclamp.registry.errors import UsageError, hint
from patchclamp.specs.format_github import at_most, command
from patchclamp.specs.format_junit import Case, suite
from patchclamp.specs.formats import count
from patchclamp.specs.load import load
from patchclamp.specs.spec import Expectation

FINE, FINDINGS = 0, 1

MARKS: Mapping[bool | None, str] = {True: "✓", False: "✗", None: "?"}


@dataclass(frozen=True)
class Checked:
    """A result and the claims that were judged on it."""

    source: str
    claims: tuple[Claim, ...]

    @property
    def unmet(self) -> int:
        """How many claims are not met."""
        return sum(not claim.met for claim in self.claims)


def check_command(args: Namespace) -> int:
    """Judge the expectations of every result; exit 1 where one is not met, or there is none."""
    if args.format not in FORMATS:
        raise UsageError(f"unknown format {args.format!r}{hint(args.format, FORMATS)}")
    claims = None if args.spec is None else load(args.spec).spec.expect
    checked = []
    for given in args.result:
        with open_result(given) as result:
            checked.append(Checked(given, judged(result, claims)))
    deliver(FORMATS[args.format](checked), args.output, human(checked))
    return FINDINGS if any(one.unmet or not one.claims for one in checked) else FINE


def judged(result: StoredResult, claims: Sequence[Expectation] | None = None) -> tuple[Claim, ...]:
    """Judge claims on a stored result: its own spec's, unless others are given."""
    if claims is None:
        claims = [Expectation.model_validate(one) for one in result.spec.get("expect", ())]
    return judge(claims, result.analyses)


def human(checked: Sequence[Checked]) -> str:
    """Return a line for each claim, and one for each result."""
    lines = []
    for one in checked:
        lines += [f"{MARKS[claim.holds]} {claim.text} — {claim.found}" for claim in one.claims]
        lines.append(f"{one.source}: {summary(one)}")
    return "\n".join(lines) + "\n"


def summary(one: Checked) -> str:
    """Return how many claims are met."""
    if not one.claims:
        return "nothing is expected of it: write `expect:` in the spec, or give --spec"
    met = len(one.claims) - one.unmet
    return f"{met} of {count(len(one.claims), 'expectation')} met"


def as_json(checked: Sequence[Checked]) -> str:
    """Return the claims as data."""
    data = [
        {"source": one.source, "unmet": one.unmet, "claims": [asdict(c) for c in one.claims]}
        for one in checked
    ]
    return json.dumps({"version": 1, "results": data}, indent=1, ensure_ascii=False) + "\n"


def markdown(checked: Sequence[Checked]) -> str:
    """Return a table of claims for each result."""
    lines = []
    for one in checked:
        icon = "✅" if one.claims and not one.unmet else "❌"
        lines += [f"### {icon} `{one.source}`: {summary(one)}", ""]
        if one.claims:
            lines += ["| | expected | found |", "|---|---|---|"]
            lines += [f"| {MARKS[c.holds]} | {c.text} | {c.found} |" for c in one.claims]
            lines.append("")
    return "\n".join(lines)


def github(checked: Sequence[Checked]) -> str:
    """Return an annotation for each claim that is not met, and a notice for each result."""
    errors = [
        command("error", {"title": f"not met: {claim.text}"}, f"{one.source}: {claim.found}")
        for one in checked
        for claim in one.claims
        if not claim.met
    ]
    errors += [
        command("error", {"title": "patchclamp check"}, f"{one.source}: {summary(one)}")
        for one in checked
        if not one.claims
    ]
    shown = at_most(errors, "error", rest="run 'patchclamp check' to see them")
    notices = [
        command("notice", {"title": "patchclamp check"}, f"{one.source}: {summary(one)}")
        for one in checked
        if one.claims
    ]
    return "\n".join([*shown, *notices]) + "\n"


def junit(checked: Sequence[Checked]) -> str:
    """Return a test case for each claim."""
    cases = []
    for one in checked:
        for claim in one.claims:
            failure = claim.found if claim.holds is False else ""
            error = claim.found if claim.holds is None else ""
            kind = "not met" if failure else "cannot be judged"
            cases.append(Case(claim.text, failure, error, kind, file=one.source))
        if not one.claims:
            cases.append(Case(one.source, error=summary(one), kind="nothing expected"))
    return suite("check", cases)


FORMATS: Mapping[str, Callable[[Sequence[Checked]], str]] = {
    "human": human,
    "json": as_json,
    "markdown": markdown,
    "github": github,
    "junit": junit,
}
"""Format -> the function that writes it."""
