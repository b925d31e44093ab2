"""Measures the bridge against AllenNLP: the same weights, the same text, taking turns in one run.

The text is drawn from a seeded Zipf distribution over made-up words; the weights are random. Figures are medians, in
tokens per second, and ratios to the first contestant of each row group. `--memory` measures how much memory many calls
of the Keras layer leave behind instead.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it would greet every run

import keras
import numpy as np
import tensorflow as tf
import torch
from rich.console import Console
from rich.table import Table

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder, batch_to_ids
from bridge.encoder.elmo_import import import_elmo
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.resources.options import ElmoOptions

FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
# Of the published models, and one on which thousands of calls take no time.
SIZES = {
    "tiny": (32, 16, 1, FILTERS[:2]),
    "small": (1024, 128, 1, FILTERS),
    "medium": (2048, 256, 1, FILTERS),
    "original": (4096, 512, 2, FILTERS),
}


def random_checkpoint(folder: Path, size: str) -> ElmoConfig:
    """Random weights of a published model's size."""
    dim, projection_dim, n_highway, filters = SIZES[size]
    lstm = {"dim": dim, "projection_dim": projection_dim, "n_layers": 2, "cell_clip": 3, "proj_clip": 3}
    cnn = {"activation": "relu", "embedding": {"dim": 16}, "filters": filters, "n_highway": n_highway}
    options = ElmoOptions.model_validate(
        {
            "lstm": {**lstm, "use_skip_connections": True},
            "char_cnn": {**cnn, "max_characters_per_token": 50, "n_characters": 262},
        }
    )
    return write_checkpoint(folder, options, initial_weights(options, seed=0))


def zipf_sentences(number: int, seed: int) -> list[list[str]]:
    """Sentences of about 20 words, the common words short."""
    generator = np.random.default_rng(seed)
    letters = list("etaoinshrdlu")
    words = ["".join(generator.choice(letters, 2 + rank.bit_length() // 2)) for rank in range(50_000)]
    lengths = generator.poisson(19, number) + 1
    return [[words[rank % len(words)] for rank in generator.zipf(1.2, length)] for length in lengths]


def seconds(contestants: dict[str, Callable[[], object]], turns: int, turn_seconds: float = 0.2) -> dict[str, float]:
    """Median seconds of a call. The contestants take turns, so that a slow moment of the machine hits all of them."""
    medians: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, call in contestants.items():
            call()  # warms up
            calls, start = 0, time.perf_counter()
            while not calls or time.perf_counter() - start < turn_seconds:
                call()
                calls += 1
            medians[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(values) for name, values in medians.items()}


def resident() -> float:
    """MiB of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def layer_calls(config: ElmoConfig, char_ids: np.ndarray) -> dict[str, Callable[[], object]]:
    """Every way to call the layer, by name."""
    batch, targets = tf.constant(char_ids), tf.zeros((len(char_ids), 1))
    calls: dict[str, Callable[[], object]] = {}
    kinds: dict[str, dict[str, Any]] = {
        "frozen": {},
        "frozen, warm": {"state": "warm"},
        "frozen, carry": {"state": "carry"},
        "fine-tuned": {"requires_grad": True},
    }
    for kind, arguments in kinds.items():
        layer = ElmoEmbedding(config, **arguments)
        model = keras.Sequential(
            [
                keras.Input((None, 50), dtype="int32"),
                layer,
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse")
        calls |= {
            f"{kind}: eager call": partial(layer.__call__, batch),
            f"{kind}: graph call": partial(tf.function(layer), batch),
            f"{kind}: predict_on_batch": partial(model.predict_on_batch, batch),
            f"{kind}: test_on_batch": partial(model.test_on_batch, batch, targets),
            f"{kind}: train_on_batch": partial(model.train_on_batch, batch, targets),
        }
    return calls


def measure_memory(config: ElmoConfig, char_ids: np.ndarray, calls: int) -> Table:
    """How much the process has grown after so many calls."""
    table = Table("call", f"MiB after {calls} calls")
    for name, call in layer_calls(config, char_ids).items():
        for _ in range(calls // 20):  # allocators reach their size
            call()
        before = resident()
        for _ in range(calls):
            call()
        table.add_row(name, f"{resident() - before:+.1f}")
    return table


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="small", help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--turns", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--memory", type=int, metavar="CALLS", help="measure memory over so many calls (try 2000)")
    arguments = parser.parse_args()

    sentences = zipf_sentences(arguments.batch_size, seed=0)
    tokens = sum(map(len, sentences))
    if arguments.memory:
        with tempfile.TemporaryDirectory() as folder:
            config = random_checkpoint(Path(folder), arguments.model)
            # Short sentences: what leaks, leaks by the call.
            char_ids = batch_to_ids([sentence[:3] for sentence in sentences[:2]])
            Console().print(measure_memory(config, char_ids, arguments.memory))
        return
    allennlp = import_elmo()
    with tempfile.TemporaryDirectory() as folder:
        config = random_checkpoint(Path(folder), arguments.model)
        reference = allennlp.Elmo(config.options_file, config.weight_file, 1, dropout=0.0).eval()
        encoder = ElmoEncoder(config)
        layer = ElmoEmbedding(config, output_mode="all", dropout=0.0)
    char_ids = batch_to_ids(sentences)
    torch_ids = torch.from_numpy(char_ids.astype("int64"))
    model = keras.Sequential([keras.Input((None, 50), dtype="int32"), layer])
    data = tf.data.Dataset.from_tensors(char_ids)

    def allennlp_forward() -> object:
        reference._elmo_lstm._elmo_lstm.reset_states()
        with torch.no_grad():
            return reference(torch_ids)

    groups: dict[str, dict[str, Callable[[], object]]] = {
        "character ids": {
            "AllenNLP batch_to_ids": lambda: allennlp.batch_to_ids(sentences),
            "batch_to_ids": lambda: batch_to_ids(sentences),
        },
        "vectors": {
            "AllenNLP Elmo": allennlp_forward,
            "ElmoEncoder": lambda: encoder(char_ids),
            "ElmoEmbedding in predict": lambda: model.predict(data, verbose=0),
        },
    }
    threads = torch.get_num_threads()
    title = f"{arguments.model}, batch {arguments.batch_size}, {tokens} tokens, {threads} threads"
    table = Table("what", "contestant", "seconds", "tokens/s", "ratio", title=title)
    for what, contestants in groups.items():
        medians = seconds(contestants, arguments.turns)
        first = next(iter(medians.values()))
        for name, median in medians.items():
            table.add_row(what, name, f"{median:.5f}", f"{tokens / median:,.0f}", f"{first / median:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
