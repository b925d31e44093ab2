"""Measures the bridge against AllenNLP: the same weights, the same text, taking turns in one run.

Every turn reads a new batch, or as many as make 200 tokens; before the first one, the caches of token vectors have read
other text (`--warm-up`). Figures are medians over the turns: tokens per second, how many times AllenNLP's in the same
turn, and the share of the machine's own matrix rate that the products of the LSTMs got. Without `--config` the weights
are random; without `--text` the words are made up, as frequent as those of a language.

`--agreement` compares vectors instead of speed: run it on your own weights and text before you choose half precision.
`--peak-memory` measures the memory that encoding takes, `--memory` what many calls of the Keras layer leave behind.
`--corpus` embeds a made-up corpus into a file, beside the loop of AllenNLP 0.9's `elmo` command.
`--pretrain` trains a language model, beside a straightforward loop over AllenNLP's modules.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it would greet every run

import torch
from benchmarking.agreement import agreement_table, compare
from benchmarking.arguments import KINDS, parse
from benchmarking.contestants import (
    Contestant,
    allennlp_contestant,
    character_id_contestants,
    encoder_contestant,
    keras_contestant,
    kernels,
    pairs,
    random_checkpoint,
    simple_elmo_contestant,
)
from benchmarking.corpus import corpus_table, measure_corpus
from benchmarking.memory import measure_memory, peak_memory, peak_table
from benchmarking.plot import plot_speed
from benchmarking.pretraining import TOKENS, make_text, measure_training, training_table
from benchmarking.speed import add_matrix_shares, flops_per_token, matrix_rates, measure, speed_table, warm_up
from benchmarking.text import Batch, file_examples, long_examples, take, take_turn, zipf_examples
from rich.console import Console

from bridge import BridgeError, Checkpoint, ElmoEncoder, batch_to_ids
from bridge.errors import MissingDependencyError, UnsupportedError
from bridge.text.readers import Example

TOKENS_PER_TURN = 200
WARM_UP_BATCH_SIZE = 32
# Tokens may look like markup.
console = Console(width=None if sys.stdout.isatty() else 130, markup=False, emoji=False, highlight=False)


def examples_of(arguments: argparse.Namespace) -> Iterator[Example]:
    """The text, as sentences of their own lengths."""
    return file_examples(arguments.text) if "text" in arguments else zipf_examples(arguments.seed)


def sentences_of(arguments: argparse.Namespace) -> list[Example]:
    """The text of a comparison: where a file has fewer sentences than asked for, all of it."""
    examples = examples_of(arguments)
    if "sentence_length" in arguments:
        return take(long_examples(examples, arguments.sentence_length), 1)
    found = list(islice(examples, arguments.sentences))
    return found or take(examples, 1)


def surroundings(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Any]:
    """What was run on what, for JSON."""
    versions = {"python": platform.python_version()}
    for package in ("elmo-keras-bridge", "torch", "allennlp", "numpy", "keras", "tensorflow", "simple_elmo"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()},
        "versions": versions,
        "machine": {
            "cpu": names[0] if names else platform.processor(),
            "cpu_count": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
        "model": {
            "lstm": checkpoint.options.lstm.model_dump(),
            "fingerprint": checkpoint.fingerprint,
            "lstm_flops_per_token": flops_per_token(checkpoint.options.lstm),
        },
        "kernels": {precision: kernels(precision) for precision in arguments.precision},
    }


def contestants_of(arguments: argparse.Namespace, checkpoint: Checkpoint, folder: Path) -> list[Contestant]:
    """AllenNLP first: ratios are to it."""
    chosen = pairs(arguments.engine, arguments.precision)
    cache = {"token_cache_bytes": arguments.token_cache_bytes} if "token_cache_bytes" in arguments else {}
    contestants = [allennlp_contestant(checkpoint)]
    contestants += [encoder_contestant(checkpoint, *pair, **cache) for pair in chosen]
    if "keras" in arguments:
        contestants += [keras_contestant(checkpoint, *pair) for pair in chosen]
    try:
        if "keras" in arguments:
            raise UnsupportedError("it switches off TensorFlow's eager execution, which --keras needs")
        contestants.append(simple_elmo_contestant(checkpoint, folder, max(*arguments.batch_size, WARM_UP_BATCH_SIZE)))
    except (MissingDependencyError, UnsupportedError) as reason:
        console.print(f"simple_elmo is left out: {reason}.")
    return contestants + character_id_contestants()


def speed(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Any]:
    """Times all contestants at every batch size."""
    # All text first: a file that is too short is told before anything runs.
    examples = examples_of(arguments)
    sentences = take(examples, arguments.warm_up)
    batches = range(0, len(sentences), WARM_UP_BATCH_SIZE)
    of_warm_up = [Batch.of(sentences[start : start + WARM_UP_BATCH_SIZE]) for start in batches]
    shapes: dict[int, list[Batch]] = {}
    turns: dict[int, list[list[Batch]]] = {}
    if "sentence_length" in arguments:
        examples = long_examples(examples, arguments.sentence_length)
    for size in arguments.batch_size:
        shapes[size] = [] if "sentence_length" in arguments else take_turn(examples, size, 1)
        turns[size] = [take_turn(examples, size, TOKENS_PER_TURN) for _ in range(arguments.turns)]

    lstm = checkpoint.options.lstm
    rates = matrix_rates(arguments.precision)
    for precision, rate in rates.items():
        console.print(f"{precision}: {kernels(precision)}; a matrix product runs at {rate / 1e9:,.0f} GFLOP/s")
    console.print(f"A token takes {flops_per_token(lstm) / 1e6:,.3g} MFLOP in the LSTMs.")
    records = []
    with tempfile.TemporaryDirectory() as folder:
        contestants = contestants_of(arguments, checkpoint, Path(folder))
        warm_up(contestants, of_warm_up)
        for size in arguments.batch_size:
            warm_up(contestants, shapes[size])
            measured = measure(contestants, turns[size], size)
            add_matrix_shares(measured, lstm, rates)
            console.print(f"\n{title_of(arguments)}, batch size {size}", speed_table(measured), sep="\n")
            records += measured
    if "plot" in arguments:
        plot_speed(arguments.plot, records, title_of(arguments))
        console.print(f"picture in {arguments.plot}")
    return {"matrix_flops_per_second": rates, "records": records}


def title_of(arguments: argparse.Namespace) -> str:
    """Weights, text and threads."""
    weights = arguments.config if "config" in arguments else f"{arguments.model} model, random weights"
    length = f", sentences of {arguments.sentence_length} tokens" if "sentence_length" in arguments else ""
    threads = torch.get_num_threads()
    return f"{weights}{length}, {threads} thread{'s'[: threads > 1]}"


def agreement(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Any]:
    """Compares every engine and precision with AllenNLP."""
    examples = sentences_of(arguments)
    encoders = {
        f"{engine} {precision}": ElmoEncoder(checkpoint, engine=engine, precision=precision)
        for engine, precision in pairs(arguments.engine, arguments.precision)
    }
    for precision in arguments.precision:
        console.print(f"{precision}: {kernels(precision)}")
    agreements = compare(checkpoint, encoders, examples, arguments.batch_size[0])
    console.print(
        f"\n{title_of(arguments)}: {counted(examples)}, beside AllenNLP", agreement_table(agreements), sep="\n"
    )
    return {"records": [asdict(agreement) for agreement in agreements]}


def peak(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Any]:
    """Measures the peak memory of AllenNLP and of every engine and precision."""
    examples = sentences_of(arguments)
    chosen = pairs(arguments.engine, arguments.precision)
    records = peak_memory(checkpoint.config, chosen, examples, arguments.batch_size[0])
    console.print(f"\n{title_of(arguments)}: {counted(examples)}", peak_table(records), sep="\n")
    return {"records": records}


def counted(examples: list[Example]) -> str:
    """Such as "100 sentences of 2013 tokens"."""
    return f"{len(examples)} sentences of {sum(len(example.tokens) for example in examples)} tokens"


def memory(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Any]:
    """Measures what calls of the layer leave behind."""
    # Short sentences: what leaks, leaks by the call.
    char_ids = batch_to_ids([example.tokens[:3] for example in take(zipf_examples(seed=0), 2)])
    console.print(measure_memory(checkpoint.config, char_ids, arguments.memory))
    return {}


def corpus(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Any]:
    """Embeds a corpus into a file."""
    with tempfile.TemporaryDirectory() as folder:
        records = measure_corpus(checkpoint, arguments.precision, arguments.corpus, arguments.seed, Path(folder))
    title = f"{title_of(arguments)}: {arguments.corpus} lines of 1 to 150 tokens, all layers to HDF5"
    console.print(f"\n{title}", corpus_table(records), sep="\n")
    return {"records": records}


def pretrain(arguments: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Any]:
    """Trains, a step a turn."""
    text = make_text(examples_of(arguments), arguments.turns, arguments.max_vocab, arguments.seed)
    records = measure_training(checkpoint, arguments.precision, text)
    title = (
        f"{title_of(arguments)}, {text.words} words, {text.softmax} softmax: {arguments.turns} steps of {TOKENS} tokens"
    )
    console.print(f"\n{title}, or a few more", training_table(records), sep="\n")
    return {"vocabulary_size": text.words, "softmax": text.softmax, "records": records}


RUNS = dict(zip(KINDS, (speed, agreement, peak, memory, corpus, pretrain), strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what the command line asks for, and prints tables."""
    arguments = parse(__doc__, argv)
    with tempfile.TemporaryDirectory() as folder:
        config = arguments.config if "config" in arguments else random_checkpoint(Path(folder), arguments.model)
        checkpoint = Checkpoint.open(config)
        figures = RUNS[arguments.kind](arguments, checkpoint)
        if "json" in arguments:
            written = json.dumps({**surroundings(arguments, checkpoint), **figures}, indent=2)
            arguments.json.write_text(written + "\n", encoding="utf-8")
            console.print(f"figures in {arguments.json}")


if __name__ == "__main__":
    try:
        main()
    except BridgeError as error:  # its message is written for users
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
