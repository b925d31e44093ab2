"""Refuses to export a model with ElmoEmbedding: what comes out could not run, or would run something else."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn

from bridge.errors import UnsupportedError

TEXT = (
    "A model with ElmoEmbedding can't be exported as a SavedModel, to TFLite or to ONNX: the call into PyTorch exists "
    "in this process only, and the export would fail or run another function elsewhere. Use `model.save` with a "
    "`.keras` file, or export the head alone: `bridge.split_head(model)` takes ELMo features."
)


def refuse_export() -> NoReturn:
    """Raises UnsupportedError, and sees to it that TFLite's converter does."""
    frame = inspect.currentframe()
    while frame is not None:
        converter: Any = frame.f_locals.get("self")
        if type(converter).__name__.startswith("TFLite") and hasattr(converter, "_keras_model"):
            # It drops this error, and goes on with the model until it fails on a detail of its own.
            converter._keras_model = _Refused()
        frame = frame.f_back
    raise UnsupportedError(TEXT)


class _Refused:
    """In the place of a model that must not be converted."""

    @property
    def call(self) -> Any:
        raise UnsupportedError(TEXT)
