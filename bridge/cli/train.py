"""`elmo-bridge train`."""

# ruff: noqa: PLC0415 - imports of seconds wait until the command runs: `--help` is quick

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bridge.cli.interrupted import saying_how_to_go_on
from bridge.cli.options import BatchSizeOption, FormatOption, LabelColumnOption, TextColumnOption


def train(
    train_file: Annotated[Path, typer.Argument(help="What to train on: TSV, JSON Lines or CoNLL; may be gzipped.")],
    run_folder: Annotated[Path, typer.Argument(help="Where to write the model, its history and its state.")],
    config: Annotated[
        str | None,
        typer.Option(
            help="The ELMo weights: an INI file, or a named model such as demo; by default the environment's."
        ),
    ] = None,
    dev: Annotated[
        Path | None,
        typer.Option(
            help="Held-out data: they choose the best epoch and stop the training, by the F1 of entities for BIO "
            "tags, else by accuracy. Without them the training loss does."
        ),
    ] = None,
    task: Annotated[
        Literal["classify", "tag"] | None,
        typer.Option(help="A label a sentence, or a tag a token; by default tag for CoNLL, else classify."),
    ] = None,
    format: FormatOption = None,
    text_column: TextColumnOption = None,
    label_column: LabelColumnOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="The most epochs to train.")] = 20,
    batch_size: BatchSizeOption = 32,
    patience: Annotated[int, typer.Option(min=1, help="Stop after so many epochs without a better one.")] = 5,
    learning_rate: Annotated[float, typer.Option(min=0, help="Adam's learning rate.")] = 1e-3,
    units: Annotated[
        int | None, typer.Option(min=1, help="Width of the head; by default 64 to classify, 100 to tag.")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=1, help="Dropout of the head; by default 0.1 to classify, 0.5 to tag.")
    ] = None,
    requires_grad: Annotated[
        bool, typer.Option("--requires-grad", help="Fine-tune the biLM too; slower, and a much larger run folder.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights, the dropout and the shuffling.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="PyTorch's device for the biLM, such as cpu or cuda:0; by default the best one.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in the folder after its last whole epoch, with the same data and options; begin it "
            "where there is none.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
) -> None:
    """Train a classifier or a tagger on ELMo.

    Writes model.keras (the best epoch), run.json, history.csv, curves.png, tensorboard/ and state.npz.
    """
    from bridge.text.readers import format_of, read_examples

    task = task or ("tag" if (format or format_of(train_file)) == "conll" else "classify")
    read = partial(read_examples, task=task, format=format, text_column=text_column, target_column=label_column)
    examples = list(read(train_file))
    held_out_examples = None if dev is None else list(read(dev))

    # Only now: wrong data are told at once, TensorFlow and PyTorch take seconds to import.
    import keras
    from rich.console import Console

    from bridge.errors import InputValueError
    from bridge.heads import LabelledData, classifier, tagger
    from bridge.heads import train as train_head
    from bridge.heads.data import labels_of
    from bridge.resources.config import ElmoConfig

    labels = labels_of([*examples, *(held_out_examples or [])])
    if len(labels) < 2:
        raise InputValueError(f"{train_file}: there must be two labels at least to tell apart. Received: {labels}.")
    # As an absolute path: the model must find its weights from everywhere. A model's name comes first, as elsewhere.
    if config is not None and config not in ElmoConfig.named_models() and Path(config).is_file():
        config = str(Path(config).resolve())
    given = {"units": units, "dropout": dropout, "device": device, "requires_grad": requires_grad or None}
    arguments: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

    keras.utils.set_random_seed(seed)
    model = (classifier if task == "classify" else tagger)(
        config, labels=labels, optimizer=keras.optimizers.Adam(learning_rate), **arguments
    )
    console = Console()
    console.print(
        f"{len(examples)} sentences to train on, {len(held_out_examples or [])} held out, {len(labels)} labels",
        highlight=False,
    )
    with saying_how_to_go_on(run_folder, overwrite=overwrite):
        history = train_head(
            model,
            run_folder,
            LabelledData(examples, labels),
            None if held_out_examples is None else LabelledData(held_out_examples, labels),
            epochs=epochs,
            batch_size=batch_size,
            patience=patience,
            seed=seed,
            settings={
                "learning_rate": learning_rate,
                **{key: value for key, value in arguments.items() if key != "device"},
            },
            resume=resume,
            overwrite=overwrite,
            console=console,
        )
    console.print(
        f"{len(history['loss'])} epochs; the model of the best one is {run_folder / 'model.keras'}",
        soft_wrap=True,
        markup=False,  # a path may have brackets
    )
