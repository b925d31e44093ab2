"""A language of known entropy, and quick runs that learn it."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from models import options_dict

from bridge.pretrain import BilmReport, train_bilm
from bridge.resources.options import ElmoOptions

OPTIONS = ElmoOptions.model_validate(options_dict(dim=12, projection_dim=8, char_dim=4, filters=((1, 4), (2, 4))))
# One of 4, and one of 2 after each: 8 equally likely sentences of 3 positions, so that the perplexity is
# exp(ln 8 / 3) = 2 in both directions.
PAIRS = {"a": "xy", "b": "yz", "c": "zw", "d": "wx"}


def write_text(path: Path, sentences: int = 300, seed: int = 0) -> Path:
    """Equally often every sentence of the language, in random order, and an empty line."""
    lines = [f"{first} {second}" for first, seconds in PAIRS.items() for second in seconds]
    lines = (lines * (sentences // len(lines) + 1))[:sentences]
    random.Random(seed).shuffle(lines)
    path.write_text("\n".join(["", *lines]) + "\n")
    return path


def run_quick(text: Path, folder: Path, **arguments: Any) -> BilmReport:
    """30 steps, a checkpoint at each tenth."""
    settings: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 6,
        "unroll_steps": 10,
        "learning_rate": 0.01,
        "checkpoint_steps": 10,
        "seed": 1,
        **arguments,
    }
    if "config" not in settings:
        settings.setdefault("options", OPTIONS)
    return train_bilm(text, folder, **settings)


def history(folder: Path) -> list[dict[str, str]]:
    """Of a run, without what depends on the clock."""
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row.pop("tokens_per_second")) > 0
    return rows


def state(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and progress of a run, without what depends on the clock."""
    with np.load(folder / "state.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    progress = json.loads(arrays.pop("header").tobytes())["progress"]
    for row in progress["rows"]:
        del row["tokens_per_second"]
    progress["row"].pop()
    return arrays, progress


def assert_same_run(folder: Path, wanted: Path) -> None:
    """The same numbers to the last bit: weights, all state, history."""
    assert history(folder) == history(wanted)
    for name in ("weights.hdf5", "options.json", "elmo.ini", "vocabulary.txt", "run.json"):
        assert (folder / name).read_bytes() == (wanted / name).read_bytes(), name
    (arrays, progress), (wanted_arrays, wanted_progress) = state(folder), state(wanted)
    assert progress == wanted_progress
    assert arrays.keys() == wanted_arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, wanted_arrays[name], err_msg=name)
