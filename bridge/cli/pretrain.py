"""`elmo-bridge pretrain`."""

# ruff: noqa: PLC0415 - imports of seconds wait until the command runs: `--help` is quick

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bridge.cli.interrupted import saying_how_to_go_on

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.pretrain import BilmReport
    from bridge.resources.options import ElmoOptions


def pretrain(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Text, a sentence a line, its tokens between spaces: files, globs in quotes, or URLs. What ends in "
            ".gz is unpacked.",
        ),
    ],
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN_FOLDER", help="Where to write the weights, their history and the state.")
    ],
    options_file: Annotated[
        Path | None,
        typer.Option(
            help="The sizes of a new biLM, as options.json has them. Where it is one of bilm-tf's training, dropout, "
            "batch_size, unroll_steps, n_epochs and all_clip_norm_val are taken from it, unless an option says else."
        ),
    ] = None,
    size: Annotated[
        Literal["tiny", "demo", "small", "medium", "original"] | None,
        typer.Option(help="Or the size of a published biLM, of the demo model, or a tiny one to try things out."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Or the weights to go on from: an INI file, or a named model such as original."),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="Text to measure on, which decides the weights that are kept. May be given several times."),
    ] = None,
    min_count: Annotated[int, typer.Option(min=1, help="How often a word must be there to be predicted.")] = 1,
    max_vocab: Annotated[
        int | None, typer.Option(min=4, help="The most words to predict, <S>, </S> and <UNK> among them.")
    ] = None,
    softmax: Annotated[
        Literal["auto", "full", "adaptive"],
        typer.Option(help="adaptive is quicker for large vocabularies; auto is full up to 20,000 words."),
    ] = "auto",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="How often to go through the text; by default 10 times.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows that are trained together; by default 128.")
    ] = None,
    unroll_steps: Annotated[int | None, typer.Option(min=1, help="Words of each row in a step; by default 20.")] = None,
    optimizer: Annotated[Literal["adam", "adagrad"], typer.Option(help="adagrad is bilm-tf's.")] = "adam",
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest one; by default 0.001 for adam, 0.2 for adagrad.")
    ] = None,
    warm_up_steps: Annotated[int, typer.Option(min=0, help="Steps in which the learning rate rises to that.")] = 0,
    schedule: Annotated[
        Literal["linear", "constant"],
        typer.Option(help="linear lets the learning rate fall to 0 over the rest of the training."),
    ] = "linear",
    max_norm: Annotated[
        float | None,
        typer.Option(help="Longer gradients are cut to this norm, all_clip_norm_val of bilm-tf; by default 10."),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the LSTMs' inputs and output; by default 0.1.")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Of the products; bfloat16 is quicker on GPUs, and on processors that have it."),
    ] = "float32",
    device: Annotated[str, typer.Option(help="PyTorch's device: cpu, or one GPU, such as cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights, the dropout and the shuffling.")] = 0,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="How often to measure and to save.")] = 1000,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in the folder after its last checkpoint, with the same text and options; begin it "
            "where there is none.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    file_friendly_logging: Annotated[
        bool, typer.Option("--file-friendly-logging", help="Plain lines instead of a bar, as in a log.")
    ] = False,
) -> None:
    """Train ELMo's biLM itself on text.

    Writes options.json and weights.hdf5, which elmo.ini names for --config; run.json, vocabulary.txt, history.csv,
    tensorboard/ and state.npz.
    """
    given = {"--options-file": options_file, "--size": size, "--config": config}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise typer.BadParameter(
            f"exactly one of {', '.join(given)} must be given. Received: {' and '.join(chosen) or 'none of them'}."
        )
    from rich.console import Console

    from bridge.pretrain import train_bilm

    console = Console(stderr=True)
    arguments: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "unroll_steps": unroll_steps,
        "max_norm": max_norm,
        "dropout": dropout,
    }
    arguments = {name: value for name, value in arguments.items() if value is not None}
    options = None
    if config is None:
        options, found = _sizes(options_file, size)
        taken = {name: value for name, value in found.items() if name not in arguments}
        if taken:
            listed = ", ".join(f"{name} {value}" for name, value in taken.items())
            console.print(f"from {options_file}: {listed}", soft_wrap=True, highlight=False, markup=False)
        arguments |= taken
    with saying_how_to_go_on(run_folder, overwrite=overwrite):
        report = train_bilm(
            inputs,
            run_folder,
            options=options,
            config=config,
            held_out=held_out or None,
            min_count=min_count,
            max_vocab=max_vocab,
            softmax=softmax,
            optimizer=optimizer,
            learning_rate=learning_rate,
            warm_up_steps=warm_up_steps,
            schedule=schedule,
            precision=precision,
            device=device,
            seed=seed,
            checkpoint_steps=checkpoint_steps,
            resume=resume,
            overwrite=overwrite,
            console=console,
            plain=file_friendly_logging,
            **arguments,
        )
    _tell(report, run_folder, console)


def _sizes(options_file: Path | None, size: Any) -> tuple[ElmoOptions, dict[str, Any]]:
    """The sizes, and what else an options file says."""
    if options_file is None:
        from bridge.pretrain.sizes import options_of_size

        return options_of_size(size), {}
    from bridge.pretrain.options_file import read_training_keys
    from bridge.resources.options import read_options
    from bridge.text.lines import check_exists

    check_exists(options_file)
    options = read_options(options_file, f"{options_file} (from --options-file)")
    return options, read_training_keys(options_file)


def _tell(report: BilmReport, run_folder: Path, console: Console) -> None:
    from bridge.pretrain.progress import duration, perplexities

    if report.seconds:
        console.print(
            f"{report.tokens_per_second:,.0f} tokens/s, {duration(report.seconds)}", soft_wrap=True, highlight=False
        )
    else:
        console.print("it was finished already: nothing was trained")
    of = "" if report.held_out_perplexities is None else "held-out "
    typer.echo(
        f"{run_folder / 'elmo.ini'}: {report.steps:,} steps, {of}perplexity "
        f"{perplexities(*(report.held_out_perplexities or report.perplexities))}"
    )
