"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

RunFolderArgument = Annotated[Path, typer.Argument(help="The run folder, as `elmo-bridge train` made it.")]
# Typer shows the choices of a Literal. Those of bridge.text.readers are spelt out here: it imports NumPy, and `--help`
# is quick.
AnyFormat = Literal["text", "tsv", "jsonl", "conll"]
FormatOption = Annotated[
    Literal["tsv", "jsonl", "conll"] | None,
    typer.Option("--format", help="What the files hold; by default their suffix says it (.tsv, .jsonl, .conll)."),
]
TextColumnOption = Annotated[
    str | None,
    typer.Option(
        help="Column or key of the sentence; by default `sentence`, or `tokens` where JSON has them. For CoNLL its "
        "number, 0 (the default) for the first."
    ),
]
LabelColumnOption = Annotated[
    str | None,
    typer.Option(
        help="Column or key of the label or tags; by default `label` or `tags`. For CoNLL its number, -1 (the "
        "default) for the last."
    ),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Sentences in a batch.")]
