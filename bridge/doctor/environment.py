"""What the process was started with: Python, Keras's settings, our environment variables, the cache folder."""

from __future__ import annotations

import difflib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bridge.doctor.findings import Finding, note, ok, problem

TESTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
ELMO_VARIABLES = ("ELMO_CONFIG", "ELMO_MODELS_URL", "ELMO_OPTIONS_FILE", "ELMO_WEIGHT_FILE")
CACHE_VARIABLE = "CACHED_PATH_CACHE_ROOT"
BACKEND_COMMAND = "export KERAS_BACKEND=tensorflow"


def check_python() -> Iterator[Finding]:
    """Python's version and the platform."""
    found = f"Python {platform.python_version()} on {platform.platform()}"
    if sys.version_info[:2] in TESTED_PYTHONS:
        yield ok("python", f"{found}.")
    else:
        tested = ", ".join(f"{major}.{minor}" for major, minor in TESTED_PYTHONS)
        yield note("python", f"{found}; Python {tested} were tested.")
    if sys.maxsize <= 2**32:
        yield problem("python", "This is a 32-bit Python, for which PyTorch has no packages.", "Install a 64-bit one.")


def check_keras_settings() -> Iterator[Finding]:
    """The backend that Keras will choose, and TensorFlow's switch back to Keras 2. Imports nothing."""
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        yield note(
            "keras settings",
            "TF_USE_LEGACY_KERAS makes tf.keras Keras 2, whose models can't hold the bridge's layers.",
            "Write `import keras`, not tf.keras, or unset it.",
            "unset TF_USE_LEGACY_KERAS",
        )
    file = Path(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras"), "keras.json")
    if os.environ.get("KERAS_BACKEND"):
        backend, origin = os.environ["KERAS_BACKEND"], "KERAS_BACKEND"
    else:
        backend, origin = "tensorflow", "Keras's default"
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            backend, origin = settings.get("backend", backend), str(file)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError) as error:
            yield note("keras settings", f"{file} can't be read ({error}): Keras ignores it.", "Delete or correct it.")
    if backend == "tensorflow":
        yield ok("keras settings", f"Keras's backend will be tensorflow ({origin}).")
    else:
        yield problem(
            "keras settings",
            f"Keras's backend will be {backend!r} ({origin}): the bridge's layers need tensorflow.",
            "Set it before Keras is imported.",
            BACKEND_COMMAND,
        )


def check_variables() -> Iterator[Finding]:
    """Our environment variables, and those that look like a slip in one of their names."""
    variables = [name for name in ELMO_VARIABLES if os.environ.get(name)]
    set_ones = ", ".join(f"{name}={os.environ[name]}" for name in variables)
    yield ok("variables", f"{set_ones}." if set_ones else "No ELMO_* variable is set.")
    for name in sorted(set(os.environ) - set(ELMO_VARIABLES)):
        if name.startswith("ELMO_"):
            close = difflib.get_close_matches(name, ELMO_VARIABLES, n=1, cutoff=0.8)
            remedy = f"Did you mean {close[0]}?" if close else None
            known = ", ".join(ELMO_VARIABLES)
            yield note("variables", f"{name} is no variable of the bridge, which reads {known}.", remedy)


def cache_folder() -> Path:
    """Where downloads go: cached_path's folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or os.path.expanduser("~/.cache/cached_path"))


def check_cache_folder() -> Iterator[Finding]:
    """Whether downloads can be kept: really writes a file, as permissions alone don't tell."""
    folder = cache_folder()
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(parent))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield problem(
            "cache folder",
            f"Models can't be downloaded: {there} can't be written ({error.strerror}), where {folder} keeps them.",
            f"Name a folder in {CACHE_VARIABLE} that you may write to.",
            f'export {CACHE_VARIABLE}="$HOME/elmo-cache"',
        )
        return
    yield ok("cache folder", f"{folder} can be written.")
