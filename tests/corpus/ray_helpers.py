"""What the programs of `test_ray_runner.py` share: windows that are soon done, worker processes, and what is there."""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bridge.corpus import progress, window_reader
from bridge.corpus.batching import take_window
from bridge.encoder.encoder import ElmoEncoder
from bridge.features.parquet import read_parquet

LINES = [" ".join(f"w{(number * 7 + place) % 23}" for place in range(number % 19)) for number in range(400)]
LINES[3] = LINES[4]  # twice the same sentence
LINES[5] = "x" * 60 + "  \tspaced   out "


def use_small_windows(max_tokens: int = 100) -> None:
    """In this process, which hands them out; and no lines about its progress."""
    vars(window_reader)["take_window"] = functools.partial(take_window, max_tokens=max_tokens)
    # However slow the machine is, only what goes wrong is shown.
    vars(progress)["SECONDS_BETWEEN_LINES"] = float("inf")


def workers(doing: str = "", of: int | None = None) -> list[int]:
    """Ids of the Ray workers of a process, this one by default; `doing` is the method that they run, if any."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
            if title.startswith(f"ray::RayWorker{doing and '.' + doing}") and (of or os.getpid()) in _ancestors(pid):
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
    return found


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        pid = int(re.search(r"\) . (\d+)", Path(f"/proc/{pid}/stat").read_text())[1])  # type: ignore[index]
        yield pid


def private_bytes(pid: int) -> int:
    """Memory that is this process's alone."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(1024 * int(number) for number in re.findall(r"Private_(?:Clean|Dirty):\s+(\d+) kB", rollup))


def parts(folder: str | Path) -> list[Path]:
    return sorted(Path(folder).glob("part-*.parquet"))


def when_parts_are(folder: str | Path, number: int, act: Callable[[], Any]) -> threading.Thread:
    """Does something in a thread, as soon as so many parts are there."""

    def wait() -> None:
        while len(parts(folder)) < number:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def wait_until_all_have_ended() -> None:
    deadline = time.monotonic() + 20
    while workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def any_worker(doing: str = "", but: Collection[int] = ()) -> int:
    while not (pids := set(workers(doing)).difference(but)):
        time.sleep(0.002)
    return pids.pop()


def read(folder: str | Path) -> list[tuple[int, str, int, np.ndarray]]:
    """All rows in the order of the files, each file's as they are."""
    rows = []
    for path in parts(folder):
        table = pq.read_table(path, page_checksum_verification=True)
        rows += [tuple(row.values()) for row in table.to_pylist()]
    return [(number, text, timesteps, np.array(values)) for number, text, timesteps, values in rows]


def check_whole(
    folder: str | Path, config: Any, lines: list[str] | None = None, layers: Any = "all", **encoder: Any
) -> None:
    """The output has every sentence once, in order, with the vectors that a local encoder makes of it."""
    lines = LINES if lines is None else lines
    rows = read(folder)
    metadata, same_rows = read_parquet(folder)
    assert [row.sentence_id for row in same_rows] == [row[0] for row in rows]
    assert metadata.sentences == len(lines)
    assert [row[0] for row in rows] == list(range(len(lines)))
    assert [row[1] for row in rows] == [line.strip() for line in lines]
    expected = ElmoEncoder(config, **encoder).embed([line.split() for line in lines], layers)
    for (_, _, timesteps, values), vectors in zip(rows, expected, strict=True):
        assert timesteps == len(vectors)
        np.testing.assert_allclose(values, vectors.reshape(-1), rtol=0, atol=1e-5)
