"""Ctrl-C while Keras trains: `Interrupts`."""

from __future__ import annotations

import keras

import bridge.interrupts


class Interrupts(bridge.interrupts.Interrupts, keras.callbacks.Callback):
    """Lets Ctrl-C end `fit` between two batches; pressed again, it does so at once.

    An interrupt in the midst of a batch may get lost: TensorFlow turns it into a `SystemError` where it makes its
    results, and Python drops it in a destructor. Other handlers than Python's own stay in charge.

    Example:
        >>> with Interrupts() as interrupts:
        ...     model.fit(x, y, callbacks=[interrupts])
    """

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.raise_if_pressed()

    def on_test_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.raise_if_pressed()
