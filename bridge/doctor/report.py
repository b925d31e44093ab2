"""A report as text: `print_report`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.doctor.findings import Finding, Report, Status

STYLES: dict[Status, str] = {"ok": "green", "skipped": "dim", "note": "yellow", "problem": "bold red"}


def print_report(report: Report, console: Console) -> None:
    """Prints all findings, a line each where it is wide enough: what is well first, the problems and remedies last."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for status in ("ok", "skipped", "note"):
        for finding in report.findings:
            if finding.status == status:
                table.add_row(Text(status, STYLES[status]), Text(finding.check), _described(finding))
    console.print(table)
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
        text.append(f"\n{finding.remedy}")
    if finding.command:
        text.append(f"\n  {finding.command}", "bold")
    return text


def _summary(problems: Sequence[Finding], seconds: float) -> str:
    if not problems:
        return f"No problems, in {seconds:.0f} s."
    return f"{len(problems)} problem{'s' if len(problems) > 1 else ''}, in {seconds:.0f} s."
