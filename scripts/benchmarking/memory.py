"""Memory: what many calls of the Keras layer leave behind, and how much encoding a text takes at most."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

import bridge
from benchmarking.contestants import allennlp_contestant, encoder_contestant
from benchmarking.text import Batch
from bridge import Checkpoint, ElmoConfig
from bridge.encoder.arguments import Engine
from bridge.encoder.linear import Precision
from bridge.text.readers import Example


def resident() -> float:
    """MiB of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def layer_calls(config: ElmoConfig, char_ids: np.ndarray) -> dict[str, Callable[[], object]]:
    """Every way to call the layer, by name. Imports TensorFlow."""
    keras, tf = importlib.import_module("keras"), importlib.import_module("tensorflow")
    batch, targets = tf.constant(char_ids), tf.zeros((len(char_ids), 1))
    calls: dict[str, Callable[[], object]] = {}
    kinds: dict[str, dict[str, Any]] = {
        "frozen": {},
        "frozen, warm": {"state": "warm"},
        "frozen, carry": {"state": "carry"},
        "fine-tuned": {"requires_grad": True},
    }
    for kind, arguments in kinds.items():
        layer = bridge.ElmoEmbedding(config, **arguments)
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


def peak_memory(
    config: ElmoConfig, pairs: list[tuple[Engine, Precision]], examples: list[Example], batch_size: int
) -> list[dict[str, Any]]:
    """MiB that encoding a text takes, of AllenNLP and of each engine and precision, each in a fresh process."""
    records = []
    for pair in [None, *pairs]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            records.append(executor.submit(_encode, config, pair, examples, batch_size).result())
    return records


def _encode(
    config: ElmoConfig, pair: tuple[Engine, Precision] | None, examples: list[Example], batch_size: int
) -> dict[str, Any]:
    checkpoint = Checkpoint.open(config)
    contestant = encoder_contestant(checkpoint, *pair) if pair else allennlp_contestant(checkpoint)
    loaded = resident()
    for start in range(0, len(examples), batch_size):
        contestant.run(Batch.of(examples[start : start + batch_size]))
    # Not getrusage: a process starts with its parent's peak there.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"contestant": contestant.name, "loaded_mib": loaded, "peak_mib": int(status["VmHWM"].split()[0]) / 1024}


def peak_table(records: list[dict[str, Any]]) -> Table:
    """A row a contestant."""
    table = Table("contestant", "MiB when loaded", "MiB at most")
    for record in records:
        table.add_row(record["contestant"], f"{record['loaded_mib']:,.0f}", f"{record['peak_mib']:,.0f}")
    return table
