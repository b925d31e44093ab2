"""Timing the contestants: they take turns, on the same new text in each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from rich.table import Table

from benchmarking.contestants import Contestant
from benchmarking.text import Batch
from bridge.encoder.linear import Linear, Precision
from bridge.resources.options import LstmOptions

MATRIX_SIZE = 2048
# What was measured of a contestant at a batch size, ready for JSON.
Record = dict[str, Any]


def flops_per_token(lstm: LstmOptions) -> int:
    """Floating-point operations that the matrix products of the LSTMs take for a token, both directions together.

    An input and a recurrent product with four gates each, and the projection; a multiply-add is two operations.
    """
    multiply_adds = 2 * lstm.projection_dim * 4 * lstm.dim + lstm.dim * lstm.projection_dim
    return 2 * multiply_adds * 2 * lstm.n_layers


def matrix_rates(precisions: Iterable[Precision]) -> dict[Precision, float]:
    """Operations per second of a square product on this machine now, the best of PyTorch's and oneDNN's packed one.

    Where half precision is not native, its products run in float32.
    """
    rates: dict[Precision, float] = {}
    wanted: list[Precision] = ["float32", *precisions]  # AllenNLP's first
    for precision in dict.fromkeys(wanted):
        linear = Linear(torch.randn(MATRIX_SIZE, MATRIX_SIZE), None, precision, torch.device("cpu"))
        if linear.dtype == torch.float32 and rates:
            rates[precision] = rates["float32"]
            continue
        inputs, weight = (torch.randn(MATRIX_SIZE, MATRIX_SIZE).to(linear.dtype) for _ in range(2))
        best = min(_best_seconds(torch.mm, inputs, weight), _best_seconds(linear, inputs))
        rates[precision] = 2 * MATRIX_SIZE**3 / best
    return rates


def _best_seconds(call: Callable[..., object], *arguments: torch.Tensor, repeats: int = 5) -> float:
    call(*arguments)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(*arguments)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def warm_up(contestants: list[Contestant], batches: list[Batch]) -> None:
    """Every contestant reads a batch; those with a cache of token vectors read them all."""
    for contestant in contestants:
        for batch in batches if contestant.encoder else batches[:1]:
            contestant.run(batch)


def measure(contestants: list[Contestant], turns: list[list[Batch]], batch_size: int) -> list[Record]:
    """Times the contestants. They take turns, so that a slow moment of the machine hits all of them.

    Ratios are to the first contestant of the same `what` in the same turn.
    """
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    before = [_hits_and_misses(contestant) for contestant in contestants]
    for batches in turns:
        for contestant in contestants:
            start = time.perf_counter()
            for batch in batches:
                contestant.run(batch)
            seconds[contestant.name].append(time.perf_counter() - start)
    tokens = [sum(batch.tokens for batch in batches) for batches in turns]
    first: dict[str, list[float]] = {}
    records = []
    for contestant, (hits, misses) in zip(contestants, before, strict=True):
        own = seconds[contestant.name]
        reference = first.setdefault(contestant.what, own)
        hits_now, misses_now = _hits_and_misses(contestant)
        records.append(
            {
                "batch_size": batch_size,
                "what": contestant.what,
                "contestant": contestant.name,
                "precision": contestant.precision,
                "tokens": tokens,
                "seconds": own,
                "tokens_per_second": [number / time for number, time in zip(tokens, own, strict=True)],
                "ratios": [theirs / time for theirs, time in zip(reference, own, strict=True)],
                "cache": {"hits": hits_now - hits, "misses": misses_now - misses} if contestant.encoder else None,
            }
        )
    return [_summed_up(record) for record in records]


def _hits_and_misses(contestant: Contestant) -> tuple[int, int]:
    return contestant.encoder.token_cache_info()[:2] if contestant.encoder else (0, 0)


def _summed_up(record: Record) -> Record:
    cache = record["cache"]
    if cache:
        cache["hit_rate"] = cache["hits"] / (cache["hits"] + cache["misses"])
    medians = {name: statistics.median(record[name]) for name in ("seconds", "tokens_per_second", "ratios")}
    return {**record, "medians": medians}


def add_matrix_shares(records: list[Record], lstm: LstmOptions, rates: dict[Precision, float]) -> None:
    """Adds which share of the machine's matrix rate the LSTMs of a contestant got."""
    for record in records:
        rate = record["medians"]["tokens_per_second"] * flops_per_token(lstm) / rates[record["precision"]]
        record["matrix_share"] = rate if record["what"] == "vectors" else None


def speed_table(records: list[Record]) -> Table:
    """The records of a batch size."""
    table = Table("contestant", "tokens/s", "min to max", "ratio", "min to max", "matrix rate", "cache hits")
    for column in table.columns[1:]:
        column.justify = "right"
    for previous, record in zip([None, *records], records, strict=False):
        if previous and previous["what"] != record["what"]:
            table.add_section()
        rates, ratios, share, cache = (
            record[name] for name in ("tokens_per_second", "ratios", "matrix_share", "cache")
        )
        table.add_row(
            record["contestant"],
            f"{record['medians']['tokens_per_second']:,.0f}",
            f"{min(rates):,.0f} to {max(rates):,.0f}",
            f"{record['medians']['ratios']:.2f}x",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            "" if share is None else f"{share:.0%}",
            f"{cache['hit_rate']:.0%}" if cache else "",
        )
    return table
