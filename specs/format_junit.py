"""JUnit XML, which the test view of any CI system reads: a test case for each thing checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from patchclamp.specs.diagnostics import one_line
from patchclamp.specs.formats import Checked, count

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""


@dataclass(frozen=True)
class Case:
    """One test case: `failure` says what is wrong, `error` why it could not be checked.

    `kind` names the sort of either, `message` puts it in a line; `file` is where it lies.
    """

    name: str
    failure: str = ""
    error: str = ""
    kind: str = ""
    message: str = ""
    output: str = ""
    file: str = ""


def suite(command: str, cases: Sequence[Case]) -> str:
    """Return the test cases of a command as a document."""
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(bool(case.failure) for case in cases)),
        "errors": str(sum(bool(case.error) for case in cases)),
        "skipped": "0",
    }
    suites = ElementTree.Element("testsuites", {"name": "patchclamp", **counts})
    about = {"name": f"patchclamp {command}", **counts}
    parent = ElementTree.SubElement(suites, "testsuite", about)
    for case in cases:
        _add(parent, case, f"patchclamp.{command}")
    ElementTree.indent(suites)
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return head + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, case: Case, classname: str) -> None:
    about = {"classname": classname, "name": _clean(case.name), "time": "0"}
    if case.file:
        about["file"] = _clean(case.file)
    element = ElementTree.SubElement(parent, "testcase", about)
    for tag, text in (("failure", case.failure), ("error", case.error)):
        if text:
            message = _clean(case.message or text.splitlines()[0])
            said = ElementTree.SubElement(element, tag, {"message": message, "type": case.kind})
            said.text = _clean(text)
    if case.output:
        ElementTree.SubElement(element, "system-out").text = _clean(case.output)


def render(checked: Sequence[Checked], root: Path) -> str:
    """Return a case for each spec; a failure holds the report, an error why nothing was read."""
    return suite("validate", [_case(one) for one in checked])


def _case(one: Checked) -> Case:
    if one.unreadable:
        return Case(one.source, error=one.unreadable, kind="unreadable", file=one.source)
    if not one.valid:
        codes = ", ".join(dict.fromkeys(d.code for d in one.diagnostics))
        message = f"{count(one.errors, 'error')}: {codes}"
        return Case(
            one.source, failure=one.report, kind="invalid", message=message, file=one.source
        )
    warnings = "\n".join(map(one_line, one.diagnostics))
    return Case(one.source, output=warnings, file=one.source)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
