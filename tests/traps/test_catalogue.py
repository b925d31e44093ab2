"""docs/troubleshooting.md has an entry for every test in this folder, and a test for every entry."""

from __future__ import annotations

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "troubleshooting.md"


def test_every_entry_has_a_test_of_its_name_and_every_test_an_entry() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    entries = ["test_" + re.sub(r"[^a-z0-9]+", "_", heading.lower()).strip("_") for heading in headings]
    tests = [
        node.name
        for path in FOLDER.glob("test_*.py")
        if path.name != Path(__file__).name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert sorted(entries) == sorted(tests)


def test_every_entry_begins_with_the_message_that_people_search_for() -> None:
    entries = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    begins = {heading: body.lstrip() for heading, _, body in (entry.partition("\n") for entry in entries)}
    assert [heading for heading, body in begins.items() if not body.startswith(("```text\n", "No message"))] == []
