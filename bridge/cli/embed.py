"""`elmo-bridge embed`."""

# ruff: noqa: PLC0415 - imports of seconds wait until the command runs: `--help` is quick

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.corpus.embed import CorpusReport
    from bridge.resources.config import ElmoConfig


def embed(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Sentences, one a line, their tokens between spaces: files, globs in quotes, URLs, or - for the "
            "standard input. What ends in .gz is unpacked.",
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT",
            help="The file to write, or with ray a folder or its URL. It appears under its name when it is whole.",
        ),
    ],
    all_layers: Annotated[bool, typer.Option("--all", help="Write all layers: (layers, tokens, dim).")] = False,
    top: Annotated[bool, typer.Option("--top", help="Write the last LSTM layer: (tokens, dim).")] = False,
    average: Annotated[bool, typer.Option("--average", help="Write the mean of all layers: (tokens, dim).")] = False,
    config: Annotated[
        str | None,
        typer.Option(
            help="The ELMo weights: an INI file, or a named model such as original; by default the environment's."
        ),
    ] = None,
    options_file: Annotated[str | None, typer.Option(help="A path or URL; with --weight-file.")] = None,
    weight_file: Annotated[str | None, typer.Option(help="A path or URL; with --options-file.")] = None,
    format: Annotated[
        Literal["hdf5", "parquet"] | None,
        typer.Option(help="What to write; by default what the suffix of OUTPUT says, else hdf5."),
    ] = None,
    layout: Annotated[
        Literal["elmo", "packed"],
        typer.Option(
            help="Of HDF5: elmo is that of `allennlp elmo`, a dataset a line; packed is one array, for training and "
            "for millions of lines."
        ),
    ] = "elmo",
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="Of the stored numbers.")] = "float32",
    compression: Annotated[
        Literal["gzip", "lzf", "snappy", "zstd", "lz4"] | None,
        typer.Option(help="HDF5 has gzip and lzf, Parquet has snappy, gzip, zstd and lz4; by default none."),
    ] = None,
    use_sentence_keys: Annotated[
        bool, typer.Option("--use-sentence-keys", help="Name datasets by their sentences; / is written %2F.")
    ] = False,
    forget_sentences: Annotated[
        bool, typer.Option("--forget-sentences", help="Leave the sentences out, unless they are keys.")
    ] = False,
    state: Annotated[
        Literal["zero", "warm", "carry"],
        typer.Option(
            help="Where a sentence starts: zero and warm do not depend on other sentences; carry is AllenNLP's own "
            "way, in the order of the lines."
        ),
    ] = "zero",
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Of the biLM's products.")
    ] = "float32",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="The most sentences run together; by default 256, 64 with carry.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens run together, padding included.")] = 4096,
    cuda_device: Annotated[int, typer.Option(min=-1, help="The number of the GPU; -1 is the CPU.")] = -1,
    input_format: Annotated[
        Literal["text", "tsv", "jsonl", "conll", "parquet"] | None,
        typer.Option(help="What INPUT holds; by default parquet where its name ends so, else text."),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(help="Column or key of the sentence, where INPUT has columns; of CoNLL its number."),
    ] = None,
    on_error: Annotated[
        Literal["raise", "skip"],
        typer.Option(help="A line that is not UTF-8 ends the run, or counts as an empty one and is told."),
    ] = "raise",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on after a crash, with the same text and options; begin where nothing is there, and do nothing "
            "where OUTPUT is finished.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT, or a run not finished.")] = False,
    runner: Annotated[
        Literal["local", "ray"],
        typer.Option(help="ray: on a Ray cluster, to a folder of Parquet files; needs the extra `ray`."),
    ] = "local",
    num_actors: Annotated[int | None, typer.Option(min=1, help="With ray: how many copies of the model run.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="With ray: the cluster; by default the one of this machine, else a new one.")
    ] = None,
    file_friendly_logging: Annotated[
        bool, typer.Option("--file-friendly-logging", help="Plain lines instead of a bar, as in a log.")
    ] = False,
    vocab_path: Annotated[str | None, typer.Option(hidden=True)] = None,
    include_package: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Embed sentences with ELMo, to a file of their vectors. Takes what AllenNLP's `allennlp elmo` took.

    Work in progress is in OUTPUT.partial. The file's attribute elmo_bridge says which weights and settings made it.
    """
    from rich.console import Console

    console = Console(stderr=True)
    for name, value in (("--vocab-path", vocab_path), ("--include-package", include_package)):
        if value:
            console.print(f"{name} has no effect here, as it had none in `allennlp elmo`", highlight=False)
    chosen = [name for name, given in (("all", all_layers), ("top", top), ("average", average)) if given]
    if len(chosen) != 1:
        received = ", ".join(f"--{name}" for name in chosen) or "none of them"
        raise typer.BadParameter(f"one of --all, --top and --average must be given. Received: {received}.")
    _check_runner(
        runner,
        local={
            "--format hdf5": format == "hdf5",
            "--layout packed": layout == "packed",
            "--use-sentence-keys": use_sentence_keys,
            "--forget-sentences": forget_sentences,
            "INPUT -": "-" in inputs,
        },
        ray={"--num-actors": num_actors is not None, "--ray-address": ray_address is not None},
    )
    arguments: dict[str, Any] = {
        "layers": chosen[0],
        "dtype": dtype,
        "compression": compression,
        "state": state,
        "precision": precision,
        "device": None if cuda_device < 0 else f"cuda:{cuda_device}",
        "batch_size": batch_size,
        "max_tokens": max_tokens,
        "input_format": input_format,
        "text_column": text_column,
        "on_error": on_error,
        "plain": file_friendly_logging,
        "resume": resume,
        "overwrite": overwrite,
        "console": console,
    }
    for name in inputs:
        suffix = Path(name.removesuffix(".gz")).suffix.lower()
        if input_format is None and suffix in (".tsv", ".jsonl", ".conll"):
            console.print(
                f"{name} is read as text, every line as a sentence; --input-format {suffix[1:]} reads its columns",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )
    weights = _weights(config, options_file, weight_file)
    try:
        if runner == "ray":
            from bridge.corpus.ray_runner import embed_corpus_on_ray

            report = embed_corpus_on_ray(
                inputs, output, weights, num_actors=num_actors, ray_address=ray_address, **arguments
            )
        else:
            from bridge.corpus.embed import embed_corpus

            report = embed_corpus(
                inputs,
                output,
                weights,
                format=format,
                layout=layout,
                use_sentence_keys=use_sentence_keys,
                forget_sentences=forget_sentences,
                **arguments,
            )
    except KeyboardInterrupt:
        if state != "carry":
            typer.echo("interrupted; the same command with --resume continues", err=True)
        raise
    _tell(report, output, use_sentence_keys, console)


def _check_runner(runner: str, local: dict[str, bool], ray: dict[str, bool]) -> None:
    """Raises where an option means nothing to the runner."""
    for name, given in (local if runner == "ray" else ray).items():
        if given:
            other = "local" if runner == "ray" else "ray"
            raise typer.BadParameter(f"{name} goes with --runner {other} alone. Received: it, with --runner {runner}.")


def _weights(config: str | None, options_file: str | None, weight_file: str | None) -> ElmoConfig:
    from bridge.errors import ConfigError
    from bridge.resources.config import ElmoConfig

    if config is not None and (options_file or weight_file):
        raise typer.BadParameter("must not be given beside --options-file and --weight-file.", param_hint="--config")
    try:
        return ElmoConfig.load(config, options_file=options_file, weight_file=weight_file)
    except ConfigError as error:
        if config or options_file or weight_file or any(name.startswith("ELMO_") for name in os.environ):
            raise
        raise ConfigError(
            "The weights must be named. Received: neither --config nor --options-file and --weight-file, and no "
            "ELMO_CONFIG in the environment. Give for example --config original, which `allennlp elmo` took where "
            f"nothing was said. The named models are {', '.join(ElmoConfig.named_models())}."
        ) from error


def _tell(report: CorpusReport, output: str, use_sentence_keys: bool, console: Console) -> None:
    """What was done, and what a user should know of the text."""
    metadata = report.metadata
    notes = {
        "empty lines, which have no vectors": metadata.empty_sentences,
        "tokens of more than 48 bytes, of which ELMo reads the first 48": metadata.long_tokens,
        "lines that are not UTF-8, which count as empty": metadata.skipped_lines,
        "sentences that were there already": report.resumed_sentences,
    }
    for text, number in notes.items():
        if number:
            console.print(f"{text}: {number:,}", soft_wrap=True, highlight=False)
    for problem in report.skipped:
        console.print(f"  {problem}", soft_wrap=True, highlight=False, markup=False)
    if use_sentence_keys:
        console.print("with --use-sentence-keys equal lines are stored once, and empty ones not at all")
    if not (report.resumed_sentences or report.embedded_sentences) and metadata.sentences:
        console.print("it was finished already: nothing was computed")
    if report.embedded_tokens:
        console.print(
            f"{report.embedded_tokens:,} tokens in {report.seconds:,.1f} s, "
            f"{report.embedded_tokens / report.seconds:,.0f} tokens/s, cache hits {report.cache_hit_rate:.0%}",
            highlight=False,
        )
    typer.echo(f"{output}: {metadata.sentences:,} sentences, {metadata.tokens:,} tokens")
