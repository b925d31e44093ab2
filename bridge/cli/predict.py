"""`elmo-bridge predict`."""

# ruff: noqa: PLC0415 - imports of seconds wait until the command runs: `--help` is quick

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.options import AnyFormat, BatchSizeOption, RunFolderArgument, TextColumnOption


def predict(
    run_folder: RunFolderArgument,
    file: Annotated[Path, typer.Argument(help="Sentences to predict; - is the standard input.")] = Path("-"),
    format: Annotated[
        AnyFormat | None,
        typer.Option(
            help="What the file holds; by default its suffix says it (.txt, .tsv, .jsonl, .conll), and the standard "
            "input is text: a sentence a line."
        ),
    ] = None,
    output_format: Annotated[
        AnyFormat | None,
        typer.Option(
            help="What to print; by default the format of the input (text for CoNLL where labels are predicted). text "
            "is the label, its probability and the sentence, separated by tabs, or the tags, separated by spaces."
        ),
    ] = None,
    text_column: TextColumnOption = None,
    batch_size: BatchSizeOption = 32,
) -> None:
    """Predict the labels or tags of sentences, in their order, to the standard output.

    Sentences are predicted as they come, so this works in a pipe that stays open. An empty line stays an empty line.
    """
    from bridge.heads.run_folder import RunFolder
    from bridge.text.lines import stdin
    from bridge.text.readers import format_of, read_examples
    from bridge.text.writers import PredictionWriter

    is_stdin = str(file) == "-"
    format = format or ("text" if is_stdin else format_of(file))
    task = RunFolder(run_folder).settings()["task"]
    default = "text" if (format, task) == ("conll", "classify") else format
    writer = PredictionWriter(output_format or default, task)
    examples = read_examples(stdin() if is_stdin else file, format=format, text_column=text_column, allow_empty=True)
    from bridge.heads import Head
    from bridge.heads.streaming import batches_as_they_come, predicted_lines

    head = Head.load(run_folder)
    output = typer.get_binary_stream("stdout")
    output.write(writer.header().encode())
    for batch in batches_as_they_come(examples, batch_size):
        output.write(predicted_lines(head, writer, batch).encode())
        output.flush()
