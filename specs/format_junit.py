"""What was found as JUnit XML: one test case for each spec file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from patchclamp.specs.diagnostics import one_line
from patchclamp.specs.formats import Checked, count

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""


def render(checked: Sequence[Checked], root: Path) -> str:
    """Return a suite of test cases; a failure holds the report, an error why nothing was read."""
    counts = {
        "tests": str(len(checked)),
        "failures": str(sum(not one.valid and not one.unreadable for one in checked)),
        "errors": str(sum(bool(one.unreadable) for one in checked)),
        "skipped": "0",
    }
    suites = ElementTree.Element("testsuites", {"name": "patchclamp", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "patchclamp validate", **counts})
    for one in checked:
        _case(suite, one)
    ElementTree.indent(suites)
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return head + ElementTree.tostring(suites, encoding="unicode")


def _case(suite: ElementTree.Element, one: Checked) -> None:
    name = _clean(one.source)
    about = {"classname": "patchclamp.validate", "name": name, "file": name, "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", about)
    if one.unreadable:
        about = {"message": _clean(one.unreadable), "type": "unreadable"}
        ElementTree.SubElement(case, "error", about).text = _clean(one.unreadable)
    elif not one.valid:
        codes = ", ".join(dict.fromkeys(d.code for d in one.diagnostics))
        about = {"message": _clean(f"{count(one.errors, 'error')}: {codes}"), "type": "invalid"}
        ElementTree.SubElement(case, "failure", about).text = _clean(one.report)
    elif one.diagnostics:
        warnings = "\n".join(map(one_line, one.diagnostics))
        ElementTree.SubElement(case, "system-out").text = _clean(warnings)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
