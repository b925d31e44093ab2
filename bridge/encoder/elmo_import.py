"""Imports AllenNLP's ELMo and nothing else of AllenNLP's dependency tree.

`import allennlp.modules.elmo` runs package inits that import a dozen packages of 2022 that ELMo never uses. While
the import runs, stand-ins take their place; afterwards everything is put back, `allennlp` itself included: left in
`sys.modules`, its stand-in base classes would break a later real `SpacyTokenizer`. The imported modules stay alive
through the references that `import_elmo` keeps.

`sys.modules` belongs to all threads: one that imports `transformers` for the first time in the tenths of a second that
this takes gets a stand-in. Make the first encoder before such threads start.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from bridge.errors import MissingDependencyError
from bridge.packages import INSTALL_COMMAND

ELMO_MODULE = "allennlp.modules.elmo"

# Third-party packages that AllenNLP 2.10.1 imports and its ELMo does not need. cached_path is here because the
# bridge hands over local files, tqdm because AllenNLP switches off its monitor thread for the whole process.
UNUSED_PACKAGES = frozenset(
    {
        "_jsonnet",
        "base58",
        "cached_path",
        "dill",
        "fairscale",
        "huggingface_hub",
        "lmdb",
        "more_itertools",
        "spacy",
        "torchvision",
        "tqdm",
        "transformers",
    }
)

_lock = threading.Lock()


def import_elmo() -> ModuleType:
    """Returns the module `allennlp.modules.elmo`: the user's own if imported already, else a private one.

    Raises:
        MissingDependencyError: AllenNLP is not installed, or is a version without this ELMo.
    """
    # All of it under the lock: while one thread imports privately, the others see its unfinished module.
    with _lock:
        if hasattr(sys.modules.get(ELMO_MODULE), "Elmo"):
            return importlib.import_module(ELMO_MODULE)  # waits for a thread of the user's that is still at it
        return _import_privately()


@cache
def _import_privately() -> ModuleType:
    # Before the stand-ins, so that what these import in turn is real: they stay.
    for name in ("h5py", "numpy", "torch"):
        importlib.import_module(name)
    with _stand_ins():
        try:
            elmo: Any = importlib.import_module(ELMO_MODULE)
            elmo_lstm: Any = importlib.import_module("allennlp.modules.elmo_lstm")
            lstm_cell: Any = importlib.import_module("allennlp.modules.lstm_cell_with_projection")
        except ImportError as error:
            problem = "is not installed" if error.name == "allennlp" else f"can't be imported ({error})"
            raise MissingDependencyError(
                f"AllenNLP's ELMo is needed, and allennlp {problem}. Run: {INSTALL_COMMAND}"
            ) from error
    # A local file is its own cached path.
    elmo.cached_path = elmo_lstm.cached_path = str
    # The weights are loaded right after: drawing orthogonal ones first takes several seconds at 4096 units.
    lstm_cell.block_orthogonal = lambda tensor, split_sizes: None
    return elmo


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Stand-ins for the unused packages, and a clean slate for allennlp, until the block ends."""
    hidden = {name: module for name, module in sys.modules.items() if _is_replaced(name)}
    logger_class = logging.getLoggerClass()
    finder = _StandInFinder()
    for name in hidden:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        with warnings.catch_warnings():  # AllenNLP changes the filters
            yield
    finally:
        logging.setLoggerClass(logger_class)  # AllenNLP installs its own
        sys.meta_path.remove(finder)
        for name, module in list(sys.modules.items()):
            # A real package that another thread imported meanwhile stays.
            if isinstance(module, _StandIn) or name.partition(".")[0] == "allennlp":
                del sys.modules[name]
        sys.modules.update(hidden)


def _is_replaced(name: str) -> bool:
    return name.partition(".")[0] in UNUSED_PACKAGES | {"allennlp"}


class _StandInFinder(MetaPathFinder, Loader):
    """Finds every module of the unused packages, as a stand-in."""

    def __init__(self) -> None:
        # Other threads may be importing the real ones: only the thread that imports AllenNLP is served.
        self.thread = threading.get_ident()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in UNUSED_PACKAGES and threading.get_ident() == self.thread:
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _StandIn(ModuleType):
    """A module in which every name is a class: AllenNLP derives from some of them and annotates with others."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
