"""A whole corpus to an HDF5 file: `embed_corpus` beside the loop of AllenNLP 0.9's `elmo` command."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from rich.table import Table

from benchmarking.contestants import allennlp_elmo
from benchmarking.text import zipf_examples
from bridge import Checkpoint
from bridge.corpus.embed import embed_corpus
from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.linear import Precision
from bridge.text.readers import Example

# Lengths as those of real text: many short sentences, few long ones. The logarithm is normal.
MEDIAN_LENGTH, SPREAD, LONGEST = 20, 0.8, 150
# Of AllenNLP's command.
BATCH_SIZE = 64


def spread_examples(examples: Iterator[Example], seed: int) -> Iterator[Example]:
    """Sentences of 1 to 150 tokens, made of those of others."""
    generator = np.random.default_rng(seed)
    tokens = chain.from_iterable(example.tokens for example in examples)
    while True:
        length = int(np.clip(generator.lognormal(np.log(MEDIAN_LENGTH), SPREAD), 1, LONGEST))
        if sentence := list(islice(tokens, length)):
            yield Example(sentence)
        else:
            return


def write_corpus(path: Path, lines: int, seed: int) -> int:
    """Writes a corpus; returns its number of tokens."""
    sentences = [example.tokens for example in islice(spread_examples(zipf_examples(seed), seed), lines)]
    path.write_text("".join(f"{' '.join(tokens)}\n" for tokens in sentences), encoding="utf-8")
    return sum(map(len, sentences))


def allennlp_loop(checkpoint: Checkpoint, corpus: Path, output: Path) -> float:
    """Embeds in the order of the file, 64 lines at a time, as the command did; returns the seconds."""
    allennlp = import_elmo()
    bilm = allennlp_elmo(checkpoint)._elmo_lstm
    began = time.perf_counter()
    sentences = [line.split() for line in corpus.read_text(encoding="utf-8").splitlines()]
    with h5py.File(output, "w") as file, torch.no_grad():
        for start in range(0, len(sentences), BATCH_SIZE):
            batch = sentences[start : start + BATCH_SIZE]
            layers = torch.stack(bilm(allennlp.batch_to_ids(batch))["activations"], dim=1)
            for row, tokens in enumerate(batch):
                vectors = layers[row, :, 1 : len(tokens) + 1].numpy()
                file.create_dataset(str(start + row), vectors.shape, dtype="float32", data=vectors)
    return time.perf_counter() - began


def measure_corpus(
    checkpoint: Checkpoint, precisions: list[Precision], lines: int, seed: int, folder: Path
) -> list[dict[str, Any]]:
    """Tokens per second of both, writing included and loading the model not. AllenNLP first."""
    corpus = folder / "corpus.txt"
    tokens = write_corpus(corpus, lines, seed)
    seconds = allennlp_loop(checkpoint, corpus, folder / "allennlp.hdf5")
    records = [_record("AllenNLP 0.9's loop", tokens, seconds, seconds)]
    for precision in precisions:
        output = folder / f"{precision}.hdf5"
        report = embed_corpus(corpus, output, checkpoint, precision=precision)
        records.append(_record(f"embed_corpus {precision}", report.metadata.tokens, report.seconds, seconds))
        output.unlink()
    return records


def _record(contestant: str, tokens: int, seconds: float, allennlp_seconds: float) -> dict[str, Any]:
    return {
        "contestant": contestant,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "ratio": allennlp_seconds / seconds,
    }


def corpus_table(records: list[dict[str, Any]]) -> Table:
    """A row a contestant."""
    table = Table("contestant", "tokens", "seconds", "tokens/s", "times AllenNLP's")
    for record in records:
        numbers = (f"{record['seconds']:,.1f}", f"{record['tokens_per_second']:,.0f}", f"{record['ratio']:.2f}")
        table.add_row(record["contestant"], f"{record['tokens']:,}", *numbers)
    return table
