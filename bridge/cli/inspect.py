"""`elmo-bridge inspect`."""

# ruff: noqa: PLC0415 - imports wait until the command runs: `--help` is quick

from __future__ import annotations

import sys
from typing import Annotated

import typer


def inspect(
    config: Annotated[str, typer.Argument(help="The ELMo weights: an INI file, or a named model such as demo.")],
    download: Annotated[
        bool, typer.Option("--download", help="Download the files if they are at a URL and not here yet.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what weights are: files, sizes, layers, parameters, memory, and everything that is wrong with them.

    The exit code is 1 if something is.
    """
    import json as json_format

    from bridge.doctor.checkpoint_summary import summarise
    from bridge.doctor.summary_text import summary_lines

    summary = summarise(config, download=download)
    if json:
        typer.echo(json_format.dumps(summary.model_dump(mode="json"), indent=2))
    else:
        for name, value in summary_lines(summary):
            typer.echo(f"{name:<14} {value}")
        for problem in summary.problems:
            print(f"problem: {problem}", file=sys.stderr)
    if summary.problems:
        raise typer.Exit(1)
