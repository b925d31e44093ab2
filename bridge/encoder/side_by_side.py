"""Two pieces of PyTorch work at once, each with half of the threads: `SideBySide`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import torch


class SideBySide:
    """Runs two functions in two threads of its own, which share the caller's number of PyTorch threads.

    One thread alone per piece has nobody to wait for after every operation. On a GPU each piece has a stream of its
    own. Where the caller has one thread for a CPU, the functions run one after the other in it.

    Args:
        device: where the work runs.

    Call arguments:
        first, second: called with an event that is set when they should give up, because the other one failed or the
            caller was interrupted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, first: Callable[[threading.Event], None], second: Callable[[threading.Event], None]) -> None:
        stop = threading.Event()
        threads = torch.get_num_threads()
        if self._device.type == "cpu" and threads == 1:
            first(stop)
            second(stop)
            return
        stream = None if self._device.type == "cpu" else torch.cuda.current_stream(self._device)
        futures = []
        try:
            for work in (first, second):
                futures.append(self._executor.submit(self._run, work, stop, max(1, threads // 2), stream))
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            wait(futures)
            # Of threads that start later: it was set to half.
            torch.set_num_threads(threads)
        for future in futures:
            future.result()

    @functools.cached_property
    def _executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(2, thread_name_prefix="elmo")

    def _run(self, work: Callable[[threading.Event], None], stop: threading.Event, threads: int, callers: Any) -> None:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.no_grad():
            if callers is None:
                work(stop)
                return
            own = torch.cuda.Stream(self._device)
            own.wait_stream(callers)
            with torch.cuda.stream(own):
                work(stop)
            callers.wait_stream(own)
