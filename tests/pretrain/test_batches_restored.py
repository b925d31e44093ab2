"""Batches go on anywhere, bit for bit, also in another process."""

import json
import os
import pickle
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretrain.naive_batches import Text, assert_same, corpus_of, sample_text, sizes, texts, vocabulary_of

from bridge.errors import InputValueError
from bridge.pretrain.batches import Batch, TrainingBatches


def go_on(batches: TrainingBatches, state: dict[str, Any]) -> TrainingBatches:
    batches.restore(json.loads(json.dumps(state)))
    return batches


@given(
    text=texts,
    batch_size=sizes,
    unroll_steps=sizes,
    window=st.integers(1, 12),
    steps=st.integers(0, 40),
    files=st.integers(1, 3),
    suffix=st.sampled_from([".txt", ".txt.gz"]),
)
def test_restored_at_any_step_it_goes_on_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    text: Text,
    batch_size: int,
    unroll_steps: int,
    window: int,
    steps: int,
    files: int,
    suffix: str,
) -> None:
    corpus = corpus_of(tmp_path_factory.mktemp("text"), text, files, suffix)
    vocabulary = vocabulary_of(text, 6)
    arguments = {"batch_size": batch_size, "unroll_steps": unroll_steps, "seed": 3, "window_sentences": window}
    one = TrainingBatches(corpus, vocabulary, **arguments)
    for _ in range(steps):
        next(one)
    state, epoch = one.state(), one.epoch
    kept = json.dumps(state)
    wanted = list(islice(one, 15))
    assert json.dumps(state) == kept  # a state is not touched by what comes after it

    other = go_on(TrainingBatches(corpus, vocabulary, **arguments), state)
    assert other.epoch == epoch
    assert json.dumps(other.state()) == kept
    for batch, theirs in zip(wanted, other, strict=False):
        assert_same(batch, theirs)
    # Back to an earlier place, in an object that has gone on since.
    for batch, theirs in zip(wanted, go_on(one, state), strict=False):
        assert_same(batch, theirs)


IN_ANOTHER_PROCESS = """
import json, pickle, sys
from itertools import islice
from bridge.corpus.sources import Corpus
from bridge.pretrain.batches import TrainingBatches
from bridge.pretrain.vocabulary import Vocabulary
files, vocabulary, state = sys.argv[1].split(","), Vocabulary.load(sys.argv[2]), json.load(open(sys.argv[3]))
batches = TrainingBatches(Corpus(files), vocabulary, **state["settings"])
batches.restore(state)
sys.stdout.buffer.write(pickle.dumps([tuple(batch) for batch in islice(batches, 20)]))
"""


def test_another_process_goes_on_bit_for_bit(tmp_path: Path) -> None:
    text = sample_text(60)
    corpus, vocabulary = corpus_of(tmp_path, text, files=2, suffix=".gz"), vocabulary_of(text)
    batches = TrainingBatches(corpus, vocabulary, batch_size=3, unroll_steps=7, seed=5, window_sentences=25)
    while batches.epoch < 2:
        next(batches)
    vocabulary.save(tmp_path / "vocabulary.txt")
    (tmp_path / "state.json").write_text(json.dumps(batches.state()))
    arguments = [",".join(corpus.files), str(tmp_path / "vocabulary.txt"), str(tmp_path / "state.json")]
    run = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    for theirs, batch in zip(pickle.loads(run.stdout), islice(batches, 20), strict=True):
        assert_same(Batch(*theirs), batch)


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: text[:40],  # ends before the place
        lambda text: text[:70],  # ends in its window
        lambda text: [*text[:65], ["other"], *text[66:]],
        lambda text: [["one", "more", "line"], *text],
    ],
)
def test_another_text_is_noticed(tmp_path: Path, changed: Any) -> None:
    text = [[f"word{number}"] for number in range(100)]
    vocabulary = vocabulary_of(text)
    arguments = {"batch_size": 2, "unroll_steps": 3, "seed": 0, "window_sentences": 20}
    batches = TrainingBatches(corpus_of(tmp_path, text), vocabulary, **arguments)
    list(islice(batches, 24))  # 24 * 2 * 3 positions: 72 sentences
    state = batches.state()
    other = TrainingBatches(corpus_of(tmp_path, changed(text)), vocabulary, **arguments)
    with pytest.raises(InputValueError, match=r"`inputs` must hold the text with which .* from line 61 on"):
        other.restore(state)


def test_other_settings_are_noticed(tmp_path: Path) -> None:
    text = sample_text(10)
    corpus, vocabulary = corpus_of(tmp_path, text), vocabulary_of(text)
    state = TrainingBatches(corpus, vocabulary, batch_size=2, unroll_steps=3, seed=0).state()
    with pytest.raises(InputValueError, match=r"must be those of the state.*'seed': 1.*'seed': 0"):
        TrainingBatches(corpus, vocabulary, batch_size=2, unroll_steps=3, seed=1).restore(state)
