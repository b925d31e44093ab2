"""Ctrl-C during a training: `Interrupts`."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any, Self


class Interrupts:
    """Lets Ctrl-C wait until something is done; pressed again, it does not.

    Other handlers than Python's own stay in charge.

    Attributes:
        pressed: whether it waits.

    Example:
        >>> with Interrupts() as interrupts:
        ...     while not interrupts.pressed:
        ...         work()
    """

    def __init__(self) -> None:
        super().__init__()
        self.pressed = self._in_charge = False

    def __enter__(self) -> Self:
        self._in_charge = (
            threading.current_thread() is threading.main_thread()  # no other thread may set a handler
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._in_charge:
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._in_charge:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if kind is None:
            self.raise_if_pressed()

    def raise_if_pressed(self) -> None:
        """Raises the KeyboardInterrupt that waits."""
        if self.pressed:
            raise KeyboardInterrupt

    def _press(self, *_: Any) -> None:
        self.raise_if_pressed()
        self.pressed = True
