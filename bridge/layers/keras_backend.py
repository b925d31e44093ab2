"""Whether Keras is the one that the layers are made for, before anything of it is imported."""

from __future__ import annotations

import os
import sys

from bridge.errors import MissingDependencyError
from bridge.packages import require_packages


def check_keras() -> None:
    """Raises MissingDependencyError unless it is Keras 3, with TensorFlow as its backend."""
    require_packages("numpy", "keras", "tensorflow")
    # Keras decides when it is imported: then by this variable, else by its own file.
    backend = "" if "keras" in sys.modules else os.environ.get("KERAS_BACKEND", "")
    if backend in ("", "tensorflow"):
        import keras  # noqa: PLC0415 - not before the check: Keras imports its backend, here or not

        backend = keras.backend.backend()
    if backend != "tensorflow":
        raise MissingDependencyError(
            f"The layers need Keras 3 on its TensorFlow backend. Received: the {backend!r} backend. Set "
            "KERAS_BACKEND=tensorflow before Keras is imported; the file ~/.keras/keras.json may name another one, too."
        )
