"""Mutants of every kind of file that the bridge reads: how one is made, and what may become of it."""

import contextlib
import random
import shutil
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.model_mutants import MODELS
from fuzz.store_mutants import STORES

from bridge.errors import BridgeError

KINDS = {**STORES, **MODELS}


def make_mutant(kind: str, seed: int, number: int, originals: Path, folder: Path) -> str:
    """Makes a mutant in a new folder; returns what was done."""
    shutil.copytree(originals, folder, dirs_exist_ok=True)
    return KINDS[kind].mutate(random.Random(f"{kind} {seed} {number}"), folder)


def try_mutant(kind: str, done: str, originals: Path, folder: Path, wanted: Any) -> str:
    """Reads a mutant; returns `refused`, `same` or `other`, or what went wrong."""
    # Relative paths in mutants find nothing else.
    with contextlib.chdir(folder):
        try:
            received = KINDS[kind].read(folder)
        except BridgeError:
            return "refused"
        except Exception as error:  # whatever else leaves is a finding
            if kind == "keras" and _is_keras_own(error):
                return "refused"
            return "".join(traceback.format_exception(error))[-3000:]
    if received == wanted:
        return "same"
    if KINDS[kind].may_differ(done) or _is_blind_spot(originals / "f.hdf5", folder / "f.hdf5"):
        return "other"
    return "other numbers, where there are checksums"


def _is_blind_spot(original: Path, mutant: Path) -> bool:
    """Whether words of zeros have become words of ones or back, which HDF5's Fletcher checksum takes for the same."""
    if not original.exists() or mutant.stat().st_size != original.stat().st_size:
        return False
    bytes_of = [np.frombuffer(path.read_bytes(), np.uint8) for path in (original, mutant)]
    changed = bytes_of[0] != bytes_of[1]
    return bool(np.isin(bytes_of[0][changed], (0, 255)).all() and np.isin(bytes_of[1][changed], (0, 255)).all())


def _is_keras_own(error: Exception) -> bool:
    """Whether Keras refused the file, before or after its part of it was ours."""
    frames = traceback.extract_tb(error.__traceback__)
    is_ours = any("/bridge/" in frame.filename for frame in frames) and "/keras/" not in frames[-1].filename
    return not is_ours and not isinstance(error, MemoryError | RecursionError)
