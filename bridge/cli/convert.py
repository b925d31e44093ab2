"""`elmo-bridge convert`."""

# ruff: noqa: PLC0415 - imports of seconds wait until the command runs: `--help` is quick

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    input: Annotated[
        Path,
        typer.Argument(help="Features: an HDF5 file, a Parquet file, or a folder of Parquet files part-*.parquet."),
    ],
    output: Annotated[Path, typer.Argument(help="The file to make; it appears when it is complete.")],
    format: Annotated[
        Literal["hdf5", "parquet"] | None,
        typer.Option(help="What to make; by default Parquet if the name ends in .parquet, else HDF5."),
    ] = None,
    layout: Annotated[
        Literal["elmo", "packed"],
        typer.Option(help="Of HDF5: packed is small and quick to read; elmo is AllenNLP's, a dataset a sentence."),
    ] = "packed",
    dtype: Annotated[
        Literal["float32", "float16"] | None, typer.Option(help="Of the numbers; by default that of the input.")
    ] = None,
    compression: Annotated[
        Literal["gzip", "lzf", "snappy", "zstd", "lz4"] | None,
        typer.Option(help="gzip or lzf for HDF5; snappy, gzip, zstd or lz4 for Parquet; none by default."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="The ELMo weights that the features must be of: an INI file, or a named model such as demo. Files of "
            "AllenNLP's own elmo command do not say of which they are, and need it."
        ),
    ] = None,
    layer: Annotated[
        Literal["top", "average"] | None,
        typer.Option(help="Which layer a file of AllenNLP's own elmo command has, if it has only one."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it is there.")] = False,
) -> None:
    """Turn features into another format, layout or dtype.

    Reads and writes a few sentences at a time. Sentences keep their order, and are named by their numbers.
    """
    from bridge.features.convert import convert_features

    metadata = convert_features(
        input,
        output,
        format=format,
        layout=layout,
        dtype=dtype,
        compression=compression,
        overwrite=overwrite,
        config=config,
        layer=layer,
    )
    typer.echo(f"{metadata.sentences} sentences, {metadata.tokens} tokens: {output}")
