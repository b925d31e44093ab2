"""A training ends as Keras's own would, and leaves other people's files alone."""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from heads.examples import LABELS, TAGS, labelled, plain_vectors, tagged
from heads.runs import quick_tagger, run_quick, tagging_data

from bridge import ElmoConfig, ElmoEmbedding
from bridge.errors import InputValueError, MissingDependencyError, UnsupportedError
from bridge.heads import LabelledData, classifier, train


def noisy(count: int, seed: int) -> LabelledData:
    """Tags that nobody can learn well, so that scores go up and down."""
    rng = np.random.default_rng(seed)
    examples = [
        example._replace(target=[str(rng.choice(TAGS)) if rng.random() < 0.5 else tag for tag in example.target or ()])
        for example in tagged(count, seed)
    ]
    return LabelledData(examples, TAGS)


@pytest.mark.slow
def test_it_is_keras_fit_with_early_stopping(tmp_path: Path) -> None:
    model, data, held_out = quick_tagger(), noisy(40, seed=0), noisy(200, seed=1)
    history = train(model, tmp_path / "run", data, held_out, epochs=12, batch_size=16, patience=2, seed=3)
    other = quick_tagger()
    wanted = other.fit(
        data.batches(16, shuffle_seed=3),
        validation_data=held_out.batches(16),
        epochs=12,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping("val_f1", mode="max", patience=2, restore_best_weights=True),
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: setattr(data, "epoch", epoch)),
        ],
    ).history
    scores = wanted["val_f1"]
    assert 3 < len(scores) < 12, scores
    assert len(set(scores)) == len(scores), "Keras has no rule for ties, and ours is tested below"
    assert history.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(history[name], wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_of_equal_epochs_the_lowest_loss_is_the_best(tmp_path: Path) -> None:
    """A tagger's F1 begins with some zeros, and they must not end the training."""
    model = quick_tagger(learning_rate=1e-4)
    model.layers[-1].bias.assign([9.0, 0.0, 0.0, 0.0])
    history = train(model, tmp_path / "run", *tagging_data(), epochs=5, patience=1, batch_size=16)
    assert history["val_f1"] == [0.0] * 5
    assert history["val_loss"] == sorted(history["val_loss"], reverse=True)
    best = model.evaluate(tagging_data()[1].batches(16), verbose=0, return_dict=True)
    assert best["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_the_run_folder(uninterrupted: Path) -> None:
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {"run.json", "model.keras", "state.npz", "history.csv", "curves.png", "tensorboard"}
    settings = json.loads((uninterrupted / "run.json").read_text(encoding="utf-8"))
    assert (settings["task"], settings["labels"], settings["arguments"]["epochs"]) == ("tag", TAGS, 5)
    assert (uninterrupted / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_without_held_out_data_the_training_loss_decides(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = classifier(labels=LABELS, vectors=plain_vectors(), units=4)
    data = LabelledData(labelled(20, seed=0), LABELS)
    history = train(model, tmp_path / "run", data, epochs=2)
    assert set(history) == {"loss", "accuracy"}
    assert (tmp_path / "run" / "model.keras").exists()


@pytest.mark.slow
def test_an_existing_run_is_not_overwritten_unasked(uninterrupted: Path, tmp_path: Path) -> None:
    before = (uninterrupted / "model.keras").read_bytes()
    with pytest.raises(InputValueError, match=r"must be new.*which holds a run.*--resume.*--overwrite"):
        run_quick(uninterrupted)
    with pytest.raises(InputValueError, match="must not both be given"):
        run_quick(uninterrupted, resume=True, overwrite=True)
    assert (uninterrupted / "model.keras").read_bytes() == before

    run_quick(tmp_path / "run", epochs=1)
    history, _ = run_quick(tmp_path / "run", epochs=2, overwrite=True)
    assert len(history["loss"]) == 2


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}])
def test_somebody_elses_folder_is_left_alone(tmp_path: Path, more: dict[str, bool]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputValueError, match="must be new, empty, or hold a run"):
        run_quick(tmp_path, **more)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    model = quick_tagger()
    model.layers[-1].bias.assign(np.full(len(TAGS), np.nan))
    with pytest.raises(InputValueError, match="Lower the learning"):
        train(model, tmp_path / "run", *tagging_data(), epochs=1)


def test_carried_state_is_refused(tmp_path: Path, small: ElmoConfig) -> None:
    model = classifier(small, labels=LABELS, state="carry")
    with pytest.raises(UnsupportedError, match='`state` must not be "carry"'):
        train(model, tmp_path / "run", LabelledData(labelled(4, 0), LABELS))


def test_carried_state_is_found_inside_of_a_model(tmp_path: Path, small: ElmoConfig) -> None:
    vectors = keras.Sequential([keras.Input((None,), dtype="string"), ElmoEmbedding(small, state="carry")])
    model = classifier(labels=LABELS, vectors=[vectors])
    with pytest.raises(UnsupportedError, match='`state` must not be "carry"'):
        train(model, tmp_path / "run", LabelledData(labelled(4, 0), LABELS))


def test_labels_in_another_order_are_refused(tmp_path: Path) -> None:
    """What is predicted would have the wrong names."""
    data, _ = tagging_data()
    others = LabelledData(tagged(4, 0), TAGS[::-1]), LabelledData(labelled(4, 0), LABELS)
    for other in others:
        with pytest.raises(InputValueError, match="`held_out` must be of the same task and labels"):
            train(quick_tagger(), tmp_path / "run", data, other)
    with pytest.raises(InputValueError, match=r"an output for each of the 2 labels of `data`. Received: .* with 4"):
        train(quick_tagger(), tmp_path / "run", others[1])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_without_accuracy_the_loss_chooses(tmp_path: Path) -> None:
    layers = [keras.Input((None,), dtype="string"), *plain_vectors(), keras.layers.Dense(len(TAGS), "softmax")]
    model = keras.Sequential(layers)
    with pytest.raises(InputValueError, match="`model` must be compiled"):
        train(model, tmp_path / "run", *tagging_data())
    model.compile(keras.optimizers.Adam(0.5), "sparse_categorical_crossentropy")
    history = train(model, tmp_path / "run", *tagging_data(), epochs=6, patience=None)
    assert set(history) == {"loss", "val_loss"}
    best = model.evaluate(tagging_data()[1].batches(32), verbose=0)
    assert best == pytest.approx(min(history["val_loss"]), rel=1e-5)


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": 0}, {"patience": 0}, {"seed": -1}])
def test_wrong_arguments(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InputValueError, match=f"`{next(iter(change))}` must be"):
        run_quick(tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_without_matplotlib_nothing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingDependencyError, match=r"'matplotlib' is needed.*elmo-keras-bridge\[heads\]"):
        run_quick(tmp_path / "run")
    assert not (tmp_path / "run").exists()
