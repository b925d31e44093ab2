"""Workers of a Ray cluster, replaced where they die: `RayPool`."""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from bridge.corpus.ray_worker import Embedded, RayJob, RayWorker
from bridge.corpus.window_reader import Window
from bridge.encoder.shared_weights import SharedWeights
from bridge.errors import BridgeError, InputValueError, ProcessError
from bridge.optional import require

# What so many workers died of, others would die of, too.
MOST_DEATHS = 3
SECONDS_UNTIL_WAITING_IS_TOLD = 30.0
SECONDS_UNTIL_THERE_IS_NO_ANSWER = 10.0


class RayPool:
    """Workers that hold the model, and the windows that they are given, one each.

    Ray could restart actors and repeat their calls by itself; but a call stays with its actor, and waits as long as
    that one finds no place. Here a dead worker's window goes to the next that is free.

    Args:
        job: what the workers are told.
        num_actors: how many; None for as many as the cluster has room for.
        console: where to tell of deaths; None for nowhere.
    """

    def __init__(self, job: RayJob, num_actors: int | None, console: Console | None) -> None:
        self._ray = require("ray", "ray")
        self._job = job
        self._console = console
        needs = {"CPU": job.threads} | ({"GPU": 1} if job.device == "cuda" else {})
        options = {f"num_{name.lower()}s": number for name, number in needs.items()}
        self._actor = self._ray.remote(max_restarts=0, scheduling_strategy="SPREAD", **options)(RayWorker)
        has = self._ray.cluster_resources()
        room = min(int(has.get(name, 0) // number) for name, number in needs.items())
        self._number = max(1, room) if num_actors is None else num_actors
        self._weights: Any = None
        self._workers: set[Any] = set()
        self._free: list[Any] = []
        # By what each worker will answer with: the worker and its window, or None while it loads.
        self._busy: dict[Any, tuple[Any, Window | None]] = {}
        self._again: deque[Window] = deque()
        self._deaths: Counter[int | None] = Counter()

    def load(self, weights: SharedWeights) -> None:
        """Puts the weights into the object store, and starts the workers."""
        self._weights = self._ray.put(weights)
        for _ in range(self._number):
            self._start()

    def run(self, windows: Iterator[Window]) -> Iterator[tuple[Window, Embedded]]:
        """Embeds windows; gives each back when its part is written, in any order.

        Raises:
            ProcessError: a window, or the model, kills every worker.
            BridgeError: what a worker raises.
        """
        upcoming = next(windows, None)
        while upcoming or self._again or self._embedding():
            while self._free and (upcoming or self._again):
                if self._again:
                    self._give(self._again.popleft())
                elif upcoming:
                    self._give(upcoming)
                    upcoming = next(windows, None)
            for answer in self._answers():
                worker, window = self._busy.pop(answer)
                try:
                    embedded = self._result(answer)
                except _Death as death:
                    self._replace(worker, window, str(death))
                else:
                    self._free.append(worker)
                    self._deaths.pop(None, None)
                    if window:
                        yield window, embedded

    def close(self) -> None:
        """Ends the workers."""
        for worker in self._workers:
            self._ray.kill(worker)

    def _start(self) -> None:
        worker = self._actor.remote()
        self._workers.add(worker)
        self._busy[worker.load.remote(self._weights, self._job)] = worker, None

    def _give(self, window: Window) -> None:
        worker = self._free.pop()
        self._busy[worker.embed.remote(window.first, window.sentences)] = worker, window

    def _embedding(self) -> bool:
        return any(window for _, window in self._busy.values())

    def _answers(self) -> list[Any]:
        """Those of the next workers that are done."""
        told = False
        while True:
            answers, _ = self._ray.wait(list(self._busy), timeout=SECONDS_UNTIL_WAITING_IS_TOLD)
            if answers:
                return answers
            if not (told or self._free or self._embedding()):
                told = True
                resources = self._ray.available_resources()
                self._tell(
                    f"waiting for a place for {self._number} workers; free in the cluster: "
                    f"{resources.get('CPU', 0):.0f} CPUs, {resources.get('GPU', 0):.0f} GPUs"
                )

    def _result(self, answer: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(answer)
        except errors.RayTaskError as error:
            if isinstance(error.cause, BridgeError | OSError):  # their messages are written for users
                raise error.cause from None
            raise
        except (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        ) as error:
            raise _Death(str(error)) from error

    def _replace(self, worker: Any, window: Window | None, reason: str) -> None:
        self._ray.kill(worker)  # it may only be out of reach
        self._workers.remove(worker)
        key = None if window is None else window.first
        self._deaths[key] += 1
        what = (
            "loading the model"
            if window is None
            else f"sentences {window.first} to {window.first + len(window.sentences) - 1}"
        )
        if self._deaths[key] > MOST_DEATHS * (self._number if window is None else 1):
            raise ProcessError(
                f"A worker must live until it is done. Received: {self._deaths[key]} deaths one after the other, in "
                f"{what}; the last: {reason.strip()} Often there is too little memory: use fewer workers "
                "(--num-actors). Finished parts stay: run the same command with `resume` (--resume)."
            )
        self._tell(f"a worker died; another one takes over: {what}")
        if window is not None:
            self._again.append(window)
        self._start()

    def _tell(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, soft_wrap=True, highlight=False)


class _Death(Exception):
    """A worker is gone, and what it was doing."""


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects to a cluster, or makes one, and ends that; does neither where Ray is connected already.

    Raises:
        InputValueError: there is no cluster at that address, or Ray is connected already and one is given.
    """
    ray = require("ray", "ray")
    if ray.is_initialized():
        if address is not None:
            raise InputValueError(
                f"`ray_address` must be left out where Ray is connected already. Received: {address!r}. Leave it out, "
                "or call `ray.shutdown()` first."
            )
        yield
        return
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    added = [name for name in quiet if name not in os.environ]
    os.environ.update({name: quiet[name] for name in added})
    try:
        _check_answers(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=address, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputValueError(
            "`ray_address` must be the address of a running cluster, or left out. Received: "
            f"{address!r}: {error}. Start one with `ray start --head`, and look at `ray status`. Without an address "
            "the one that RAY_ADDRESS names is taken."
        ) from error
    finally:
        for name in added:
            del os.environ[name]
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raises OSError where nothing answers at HOST:PORT: Ray would try for many minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_UNTIL_THERE_IS_NO_ANSWER).close()
