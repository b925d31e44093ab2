"""The packages of the extras: imported where they are used."""

import importlib
from typing import Any

from bridge.errors import MissingDependencyError


def require(module: str, extra: str) -> Any:
    """Imports a module of an extra.

    Raises:
        MissingDependencyError: its package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        raise MissingDependencyError(
            f"The package {package!r} is needed here, and it is not installed. Install the extra that has it: "
            f'`pip install "elmo-keras-bridge[{extra}]"`, or `pip install --editable ".[{extra}]"` in a clone.'
        ) from error
