"""A report as text: `print_report`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bridge.doctor.findings import Finding, Report, Status

STYLES: dict[Status, str] = {"ok": "green", "skipped": "dim", "note": "yellow", "problem": "bold red"}


def print_report(report: Report, console: Console) -> None:
    """Prints all findings: what is well first, the problems and remedies last. Lines are as long as they are."""
    for status in ("ok", "skipped", "note"):
        for finding in report.findings:
            if finding.status == status:
                line = Text.assemble((f"{status:<8}", STYLES[status]), f"{finding.check:<15} ", _described(finding))
                console.print(line, soft_wrap=True)
    problems = [finding for finding in report.findings if finding.status == "problem"]
    for number, finding in enumerate(problems, start=1):
        console.print()
        console.print(Text.assemble((f"problem {number}", STYLES["problem"]), f"  {finding.check}"))
        console.print(_described(finding), soft_wrap=True)
    console.print()
    console.print(Text(_summary(problems, report.seconds), "bold"))


def _described(finding: Finding) -> Text:
    """What was found, and its remedy below it."""
    text = Text(finding.found)
    if finding.remedy:
        text.append(f"\n        {finding.remedy}")
    if finding.command:
        text.append(f"\n          {finding.command}", "bold")
    return text


def _summary(problems: Sequence[Finding], seconds: float) -> str:
    if not problems:
        return f"No problems, in {seconds:.0f} s."
    return f"{len(problems)} problem{'s' if len(problems) > 1 else ''}, in {seconds:.0f} s."
