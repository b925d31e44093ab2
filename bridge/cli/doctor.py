"""`elmo-bridge doctor`."""

# ruff: noqa: PLC0415 - imports of seconds wait until the command runs: `--help` is quick

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bridge.doctor.findings import Finding


def doctor(
    config: Annotated[
        str | None,
        typer.Option(
            help="The ELMo weights to look at: an INI file, or a named model such as original; by default the "
            "environment's, else the demo model."
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the weights if they are at a URL and not here yet.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Try all six import orders, not just two.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for a bug report.")] = False,
) -> None:
    """Check the installation and the weights, and say how to mend what is wrong.

    Looks at versions, import orders, threads, GPUs and files, and runs three sentences through the whole bridge. The
    exit code is 1 if there is a problem. Takes half a minute, or a few minutes on a busy machine.
    """
    import json as json_format

    from bridge.doctor.examination import examine

    report = examine(config, download=download, full=full, progress=_print_progress)
    if json:
        typer.echo(json_format.dumps(report.model_dump(mode="json"), indent=2))
    else:
        from rich.console import Console

        from bridge.doctor.report import print_report

        print_report(report, Console(emoji=False, highlight=False, markup=False))
    if report.problems:
        raise typer.Exit(1)


def _print_progress(name: str, findings: list[Finding], seconds: float) -> None:
    problems = sum(finding.status == "problem" for finding in findings)
    ending = f"{problems} problem{'s' if problems > 1 else ''}" if problems else "done"
    print(f"checking {name}: {ending} ({seconds:.1f} s)", file=sys.stderr, flush=True)
    for finding in findings:  # now: what takes long may be interrupted
        if finding.status == "problem":
            print(f"  {finding.found}", file=sys.stderr, flush=True)
