"""Two pieces of PyTorch work at once, each with half of the threads: `SideBySide`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import nullcontext

import torch

Work = Callable[[threading.Event], None]

# PyTorch's number of threads is a thread's own, but setting it also sets that of threads that start later.
_setting_threads = threading.Lock()


class SideBySide:
    """Runs two functions in two threads of its own, which share the caller's number of PyTorch threads.

    One thread alone per piece has nobody to wait for after every operation. On an NVIDIA GPU each piece has a stream of
    its own. With one thread, or on another device, the functions run one after the other in the caller's thread.

    Args:
        device: where the work runs.

    Call arguments:
        first, second: called with an event that is set when they should give up, because the other one failed or the
            caller was interrupted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._threads = 0  # of each worker; not set yet

    def __call__(self, first: Work, second: Work) -> None:
        stop = threading.Event()
        on_gpu = self._device.type == "cuda"
        threads = torch.get_num_threads()
        if not on_gpu and (self._device.type != "cpu" or threads == 1):
            first(stop)
            second(stop)
            return
        try:
            if not on_gpu and self._threads != threads // 2:
                self._set_threads(threads)
            for own in self._streams:
                own.wait_stream(torch.cuda.current_stream(self._device))
            futures = [self._workers[0].submit(self._run, first, stop, *self._streams[:1])]
        except RuntimeError:  # Python is shutting down, and starts no threads any more
            first(stop)
            second(stop)
            return
        try:
            futures.append(self._workers[1].submit(self._run, second, stop, *self._streams[1:]))
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            wait(futures)
            for own in self._streams:
                torch.cuda.current_stream(self._device).wait_stream(own)
        for future in futures:
            future.result()

    @functools.cached_property
    def _workers(self) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
        return ThreadPoolExecutor(1, "elmo-forward"), ThreadPoolExecutor(1, "elmo-backward")

    @functools.cached_property
    def _streams(self) -> list[torch.cuda.Stream]:
        return [torch.cuda.Stream(self._device) for _ in range(2)] if self._device.type == "cuda" else []

    def _set_threads(self, threads: int) -> None:
        with _setting_threads:
            for worker in self._workers:
                worker.submit(_set_own_threads, threads // 2).result()
            torch.set_num_threads(threads)
        self._threads = threads // 2

    @staticmethod
    def _run(work: Work, stop: threading.Event, own: torch.cuda.Stream | None = None) -> None:
        with torch.no_grad(), torch.cuda.stream(own) if own else nullcontext():
            work(stop)


def _set_own_threads(threads: int) -> None:
    torch.get_num_threads()  # a thread's first use of PyTorch sets them, and would do so later
    torch.set_num_threads(threads)
