"""Calls that no signal may break off: `uninterrupted`."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable


def uninterrupted(function: Callable[[], object]) -> None:
    """Calls a function to its end, whatever Ctrl-C and other signals' handlers raise; that is raised afterwards.

    Where it comes before the function has begun it is not called. While HDF5 writes to a file of Python's, a handler
    would raise in the midst of it, and HDF5 does not survive that. Python runs handlers in the main thread alone: the
    function is called in another.
    """
    if threading.current_thread() is not threading.main_thread():
        function()
        return
    outcomes: list[BaseException | None] = []
    interrupts: list[BaseException] = []
    begun, ended = threading.Lock(), threading.Lock()
    ended.acquire()

    def call() -> None:
        if begun.acquire(blocking=False):
            try:
                function()
                outcomes.append(None)
            except BaseException as error:
                outcomes.append(error)
            ended.release()

    try:
        # Not `threading.Thread`: when the start of one is interrupted, nobody knows whether it runs.
        _thread.start_new_thread(call, ())
        ended.acquire()
    except RuntimeError:  # Python is ending, and starts no threads
        call()
    except BaseException as error:
        interrupts.append(error)
    while not outcomes:
        try:
            if begun.acquire(blocking=False):  # now it does not begin any more
                break
            ended.acquire()
        except BaseException as error:
            interrupts.append(error)
    if outcomes and outcomes[0] is not None:
        raise outcomes[0]
    if interrupts:
        raise interrupts[0]
