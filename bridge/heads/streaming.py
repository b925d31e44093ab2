"""Predicting a stream: batches of what has come, without waiting for what has not."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bridge.heads.prediction import Head
from bridge.text.readers import Example
from bridge.text.writers import PredictionWriter

_END = object()


def batches_as_they_come(items: Iterable[Any], batch_size: int, wait: float = 0.02) -> Iterator[list[Any]]:
    """Lists of one to `batch_size` items, in their order.

    A list is given as soon as it is full or nothing more came for `wait` seconds. The items are read in a thread that
    runs ahead by a few batches at most, so that memory does not grow.

    Args:
        items: read in another thread; what they raise is raised here, behind the items before it.
        batch_size: the most items in a list.
        wait: seconds.
    """
    arrived: queue.Queue[Any] = queue.Queue(maxsize=4 * batch_size)

    def read() -> None:
        try:
            for item in items:
                arrived.put((item, None))
            arrived.put((_END, None))
        except BaseException as error:  # handed to the consumer, which raises it
            arrived.put((_END, error))

    # A daemon: a read that blocks must not keep a process from ending.
    threading.Thread(target=read, daemon=True).start()
    while True:
        item, error = arrived.get()
        batch = []
        while item is not _END:
            batch.append(item)
            if len(batch) == batch_size:
                break
            try:
                item, error = arrived.get(timeout=wait)
            except queue.Empty:
                break
        if batch:
            yield batch
        if item is _END:
            if error is not None:
                raise error
            return


def predicted_lines(head: Head, writer: PredictionWriter, examples: Sequence[Example]) -> str:
    """The output for a batch; sentences without tokens keep their place."""
    predictions = iter(head.predict_batch([example.tokens for example in examples if example.tokens]))
    lines = []
    for example in examples:
        if not example.tokens:
            lines.append(writer.lines([], None))
            continue
        target, probabilities = next(predictions)
        lines.append(
            writer.lines(example.tokens, target, float(probabilities.max()) if head.task == "classify" else None)
        )
    return "".join(lines)
