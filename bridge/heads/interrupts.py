"""Ctrl-C during a training: `Interrupts`."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any, Self

import keras


class Interrupts(keras.callbacks.Callback):
    """Lets Ctrl-C end `fit` between two batches; pressed again, it does so at once.

    An interrupt in the midst of a batch may get lost: TensorFlow turns it into a `SystemError` where it makes its
    results, and Python drops it in a destructor. Other handlers than Python's own stay in charge.

    Example:
        >>> with Interrupts() as interrupts:
        ...     model.fit(x, y, callbacks=[interrupts])
    """

    def __init__(self) -> None:
        super().__init__()
        self._pressed = self._in_charge = False

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
            self._raise_if_pressed()

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._raise_if_pressed()

    def on_test_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._raise_if_pressed()

    def _press(self, *_: Any) -> None:
        self._raise_if_pressed()
        self._pressed = True

    def _raise_if_pressed(self) -> None:
        if self._pressed:
            raise KeyboardInterrupt
