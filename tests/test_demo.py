"""The demo: its data, its model, and the script that a newcomer runs first."""

import csv
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bridge import Checkpoint, ElmoConfig

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "bridge" / "resources" / "demo"


def rows() -> list[dict[str, str]]:
    with open(DEMO / "sentences.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_sentences_are_balanced_and_distinct() -> None:
    assert len({row["sentence"] for row in rows()}) == len(rows())
    for split in ("train", "test"):
        labels = Counter(row["label"] for row in rows() if row["split"] == split)
        assert 0.45 < labels["praise"] / labels.total() < 0.55


def test_the_same_words_occur_under_both_labels() -> None:
    # Otherwise a bag of words would do well, and the demo would show nothing.
    counts = {label: Counter[str]() for label in ("praise", "blame")}
    for row in rows():
        counts[row["label"]].update(set(row["sentence"].split()))
    for word in counts["praise"] | counts["blame"]:
        praise, blame = counts["praise"][word], counts["blame"][word]
        assert min(praise, blame) > 0.5 * max(praise, blame), word


def test_sentences_are_those_that_the_script_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import make_demo_sentences

    monkeypatch.setattr(make_demo_sentences, "TARGET", tmp_path / "sentences.tsv")
    state = random.getstate()
    make_demo_sentences.main()
    assert random.getstate() == state
    assert (tmp_path / "sentences.tsv").read_bytes() == (DEMO / "sentences.tsv").read_bytes()


def test_the_model_is_small_and_sound() -> None:
    checkpoint = Checkpoint.open("demo")
    assert checkpoint.weight_file.stat().st_size < 4_000_000
    assert (checkpoint.num_layers, checkpoint.output_dim, checkpoint.max_characters_per_token) == (3, 128, 50)


def test_config_files_are_those_models() -> None:
    demo = Checkpoint.open(ROOT / "configs" / "demo.ini")
    assert demo.fingerprint == Checkpoint.open("demo").fingerprint
    assert ElmoConfig.load(ROOT / "configs" / "original.ini") == ElmoConfig.load("original")
    assert ElmoConfig.load(ROOT / "configs" / "template.ini").options_file.endswith("path/to/options.json")


@pytest.mark.slow
@pytest.mark.timeout(900)  # six heads
def test_train_head_beats_an_untrained_bilm_and_the_plain_embedding(tmp_path: Path) -> None:
    script = str(ROOT / "scripts" / "train_head.py")
    command = [sys.executable, script, "--epochs", "12", "--seeds", "2", "--out", str(tmp_path)]
    environment = {**os.environ, "COLUMNS": "160"}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    rows = [line.split("│")[1:-1] for line in printed.splitlines() if line.startswith("│")]
    accuracies = {row[0].strip(): [float(cell) for cell in row[1:]] for row in rows}
    for first, second, mean in accuracies.values():
        assert mean == pytest.approx((first + second) / 2, abs=2e-3)
    assert accuracies["ELMo"][-1] > 0.65  # and 0.9 after 20 epochs
    assert accuracies["untrained ELMo"][-1] < 0.6
    assert accuracies["Embedding"][-1] < 0.6
    assert "learned mix  layer 0:" in printed
    assert printed.count("  praise ") + printed.count("  blame ") == 3  # the new sentences
    for vectors in ("elmo_0", "untrained_elmo_1", "embedding_1"):
        assert (tmp_path / vectors / "model.keras").exists()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
