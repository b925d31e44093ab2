"""Training a biLM, and making its weights. The names below are loaded when they are first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.pretrain.run import BilmReport
    from bridge.pretrain.training import train_bilm

__all__ = ["BilmReport", "train_bilm"]

_MODULES = {"BilmReport": "bridge.pretrain.run", "train_bilm": "bridge.pretrain.training"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
