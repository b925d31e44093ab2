"""A kind of file that is mutated, and how files of each form are."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fuzz.hdf5_mutations import mutated_hdf5
from fuzz.mutations import mutated_bytes, mutated_json


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        make: writes sound files into a folder.
        mutate: changes one of the files; returns what was done.
        read: reads them and gives what came out; None where that is another form than was promised.
        may_differ: whether a mutant that is read may give other numbers: whether that says what was done.
    """

    make: Callable[[Path], None]
    mutate: Callable[[random.Random, Path], str]
    read: Callable[[Path], Any]
    may_differ: Callable[[str], bool]


def mutate_bytes(rng: random.Random, path: Path) -> str:
    data, done = mutated_bytes(rng, path.read_bytes())
    path.write_bytes(data)
    return f"{path.name}: {done}"


def mutate_json(rng: random.Random, path: Path) -> str:
    text, done = mutated_json(rng, path.read_text())
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return f"{path.name}: {done}"


def mutate_hdf5(rng: random.Random, path: Path) -> str:
    return f"{path.name}: {mutated_hdf5(rng, path)}"


def anything(done: str) -> bool:
    return True


def nothing(done: str) -> bool:
    return False
