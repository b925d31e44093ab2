"""`elmo-bridge evaluate`."""

# ruff: noqa: PLC0415 - imports of seconds wait until the command runs: `--help` is quick

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.options import BatchSizeOption, FormatOption, LabelColumnOption, RunFolderArgument, TextColumnOption


def evaluate(
    run_folder: RunFolderArgument,
    file: Annotated[Path, typer.Argument(help="Sentences with their labels or tags: TSV, JSON Lines or CoNLL.")],
    format: FormatOption = None,
    text_column: TextColumnOption = None,
    label_column: LabelColumnOption = None,
    batch_size: BatchSizeOption = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Measure a trained head on a file.

    The accuracy of labels or of tags and, for BIO tags, precision, recall and F1 of entities as conlleval counts them.
    """
    from bridge.heads.run_folder import RunFolder
    from bridge.text.readers import read_examples

    examples = read_examples(
        file,
        task=RunFolder(run_folder).settings()["task"],
        format=format,
        text_column=text_column,
        target_column=label_column,
    )
    from bridge.heads import Head

    scores = Head.load(run_folder).evaluate(examples, batch_size)
    if as_json:
        import json

        typer.echo(json.dumps(scores))
        return
    for name, value in scores.items():
        if name != "entities":
            typer.echo(f"{name:<10} {value:.4f}" if isinstance(value, float) else f"{name:<10} {value}")
    if scores.get("entities"):
        from rich.console import Console
        from rich.table import Table

        table = Table("entity", "precision", "recall", "f1", "support")
        for name, row in scores["entities"].items():
            numbers = [f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
            table.add_row(name, *numbers, str(row["support"]))
        Console().print(table)
