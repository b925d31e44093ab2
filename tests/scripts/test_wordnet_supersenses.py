"""scripts/wordnet_supersenses.py on a WordNet of 240 synsets: its numbers are those of the predictions it stores."""

import functools
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from models import random_model

from bridge import ElmoConfig, FeatureStore
from scripts import small_wordnet

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
# Large enough to tell words apart without training.
MODEL: dict[str, Any] = {"projection_dim": 32, "filters": ((1, 16), (2, 32), (3, 32)), "char_dim": 16}
SEEDS = {10: (3, 4), 100: (3,)}  # a large share has one run
VECTORS = ["trained ELMo", "untrained ELMo", "Embedding"]


def split_of(definition: str) -> str:
    number = int(hashlib.sha256(definition.encode()).hexdigest(), 16) % 100
    return "train" if number < 80 else "dev" if number < 90 else "test"


def labelled(split: str) -> list[tuple[str, int]]:
    """Definitions of a split with their labels, in the order of the hash."""
    definitions = [(gloss.split(";")[0], number) for number, _, gloss in small_wordnet.synsets()]
    definitions.sort(key=lambda pair: hashlib.sha256(f"order {pair[0]}".encode()).digest())
    return [pair for pair in definitions if split_of(pair[0]) == split]


def write_ini(path: Path, config: ElmoConfig) -> Path:
    path.write_text(
        f"[ELMO]\noptions_file = {config.options_file}\nweight_file = {config.weight_file}\n", encoding="utf-8"
    )
    return path


class Result(NamedTuple):
    folder: Path
    arguments: list[str]
    output: str


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        from supersenses.head import Settings

        quick = functools.partial(Settings, rounds=6, sentences=150, learning_rate=0.01)
        patch.setattr("wordnet_supersenses.Settings", quick)
        yield patch


def run(arguments: list[str]) -> str:
    import wordnet_supersenses

    with wordnet_supersenses.console.capture() as capture:
        wordnet_supersenses.main(arguments)
    return capture.get()


@pytest.fixture(scope="module")
def result(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("supersenses")
    database = small_wordnet.write(folder / "wordnet", small_wordnet.synsets())
    small_wordnet.accept(patch, database)
    config = write_ini(folder / "elmo.ini", random_model(folder / "model", **MODEL))
    arguments = ["--wordnet", str(database), "--config", str(config), "--folder", str(folder / "out")]
    arguments += ["--shares", "100", "10", "--runs", "2", "--seed", "3"]
    return Result(folder / "out", arguments, run(arguments))


def recorded(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "accuracies.json").read_text(encoding="utf-8"))


def predictions_of(folder: Path) -> dict[str, list[int]]:
    found = {}
    for path in (folder / "predictions").glob("*.npz"):
        with np.load(path) as file:
            found[path.stem] = file["predicted"].tolist()
    return found


@pytest.mark.slow
def test_numbers_are_those_of_the_predictions(result: Result) -> None:
    labels = np.array([number for _, number in labelled("test")])
    predictions = predictions_of(result.folder)
    assert len(predictions) == 3 * (2 + 1)
    records = recorded(result.folder)
    assert [(record["vectors"], record["percent"]) for record in records] == [
        (vectors, percent) for vectors in VECTORS for percent in (10, 100)
    ]
    for record in records:
        name = f"{record['vectors'].replace(' ', '_').lower()}-{record['percent']}"
        runs = [float(np.mean(np.array(predictions[f"{name}-{seed}"]) == labels)) for seed in SEEDS[record["percent"]]]
        assert record["runs"] == pytest.approx(runs)
        assert record["mean"] == pytest.approx(sum(runs) / len(runs))
        assert record["low"] <= record["mean"] <= record["high"]
        assert record["labelled"] == len(labelled("train")) * record["percent"] // 100
        cell = f"{record['mean']:.1%} ({record['low']:.1%} to {record['high']:.1%})"
        assert cell in result.output
        [row] = [
            line
            for line in (result.folder / "accuracies.md").read_text(encoding="utf-8").splitlines()
            if line.startswith(f"| {record['vectors']} |")
        ]
        assert row.split(" | ")[1 + (record["percent"] == 100)].rstrip(" |") == cell


@pytest.mark.slow
def test_it_learns(result: Result) -> None:
    labels = [number for _, number in labelled("test")]
    most_frequent = max(map(labels.count, labels)) / len(labels)
    best = {record["vectors"]: record["mean"] for record in recorded(result.folder) if record["percent"] == 100}
    assert min(best.values()) > most_frequent + 0.05
    assert best["Embedding"] > 0.9


@pytest.mark.slow
def test_the_picture_is_there(result: Result) -> None:
    assert (result.folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("vectors", ["trained_elmo", "untrained_elmo"])
def test_stored_features_are_those_of_the_split(result: Result, vectors: str, split: str) -> None:
    with FeatureStore.open(result.folder / vectors / f"{split}.hdf5") as store:
        assert list(store.sentences()) == [definition for definition, _ in labelled(split)]
        assert store.layout == "packed"
        assert store.dtype == np.float16


@pytest.mark.slow
def test_a_share_is_the_begin_of_the_whole(result: Result) -> None:
    count = len(labelled("train")) // 10
    with (
        FeatureStore.open(result.folder / "trained_elmo" / f"first_{count}.hdf5") as share,
        FeatureStore.open(result.folder / "trained_elmo" / "train.hdf5") as whole,
    ):
        np.testing.assert_array_equal(share.read()[0], whole.read(0, count)[0])
        assert share.lengths.tolist() == whole.lengths[:count].tolist()


@pytest.mark.slow
def test_a_second_run_computes_nothing(result: Result) -> None:
    before = {path: path.stat().st_mtime_ns for path in result.folder.glob("*/*.hdf5")}
    records = recorded(result.folder)
    output = run(result.arguments)
    assert output.count("is in ") == 9
    assert "round" not in output
    assert recorded(result.folder) == records
    stores = {path: time for path, time in before.items() if "untrained_weights" not in str(path)}
    assert {path: path.stat().st_mtime_ns for path in stores} == stores


@pytest.mark.slow
def test_the_same_seed_gives_the_same(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(result.folder, folder)
    before = predictions_of(folder)
    for path in (folder / "predictions").glob("*-10-3.npz"):
        path.unlink()
    output = run([str(folder) if argument == str(result.folder) else argument for argument in result.arguments])
    assert output.count("is in ") == 6
    assert "tokens in" not in output  # the features stay
    assert predictions_of(folder) == before


@pytest.mark.slow
def test_other_weights_and_sentences_are_computed_anew(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(result.folder, folder)
    other = write_ini(tmp_path / "other.ini", random_model(tmp_path / "model", seed=8, **MODEL))
    arguments = [str(folder) if argument == str(result.folder) else argument for argument in result.arguments]
    arguments[arguments.index("--config") + 1] = str(other)
    arguments[arguments.index("--shares") + 1 :] = ["10", "--runs", "1", "--seed", "3"]
    output = run(arguments)
    assert output.count("is of other weights: it is made anew") == 3
    assert "trained ELMo    10%  seed 3  is in" not in output
    assert "untrained ELMo  10%  seed 3  is in" in output
    with FeatureStore.open(folder / "trained_elmo" / "test.hdf5", config=other):
        pass
    output = run([*arguments, "--limit", "200"])
    assert output.count("tokens in") == 6
    assert "is in" not in output
    assert (
        sum(len(FeatureStore.open(folder / f"trained_elmo/{split}.hdf5")) for split in ("train", "dev", "test")) == 200
    )


@pytest.mark.parametrize("wrong", [["--shares", "0"], ["--shares", "101"], ["--runs", "0"], ["--limit", "0"]])
def test_wrong_arguments(patch: pytest.MonkeyPatch, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(wrong)
    assert f"{wrong[0]} must be" in capsys.readouterr().err
