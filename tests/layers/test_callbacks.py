"""ScalarMixLogger writes what AllenNLP's formula makes of the weights, where people look for it."""

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from layers.harness import SENTENCES, SumHead, tokens

from bridge import ElmoConfig, ElmoEmbedding, ScalarMix, ScalarMixLogger
from bridge.errors import InputValueError

LAYERS = np.random.default_rng(0).normal(size=(4, 2, 3, 5)).astype("float32")
LABELS = np.ones((4, 1))


def mix_model(*names: str) -> keras.Model:
    """A model with a mix of three layers for each name."""
    inputs = keras.Input((None, 3, 5))
    outputs = [SumHead()(ScalarMix(name=name)(inputs)) for name in names]
    model = keras.Model(inputs, keras.layers.Add()(outputs) if len(outputs) > 1 else outputs[0])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


class Spy(keras.callbacks.Callback):
    """Keeps the weights of a mix at the end of each epoch."""

    def __init__(self, mix: ScalarMix) -> None:
        super().__init__()
        self.mix = mix
        self.seen: list[tuple[np.ndarray, float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append((reference.softmax(self.mix.scalar_parameters.numpy()), float(self.mix.gamma.numpy())))


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would draw: (step, value) of each curve, from the event files themselves."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                curves.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return curves


def test_history_and_tensorboard(tmp_path: Path) -> None:
    model = mix_model("mix")
    spy = Spy(model.get_layer("mix"))
    logger = ScalarMixLogger(tmp_path / "runs")
    history = model.fit(LAYERS, LABELS, epochs=3, callbacks=[logger, spy], verbose=0).history
    assert list(history) == ["loss", "mix/layer_0", "mix/layer_1", "mix/layer_2", "mix/gamma"]
    by_epoch = np.array([history[f"mix/layer_{index}"] for index in range(3)]).T
    assert len({tuple(row) for row in by_epoch}) == 3, "the mix did not train"
    np.testing.assert_allclose(by_epoch, [weights for weights, _ in spy.seen], rtol=1e-12)
    np.testing.assert_allclose(by_epoch.sum(axis=1), 1)
    np.testing.assert_allclose(history["mix/gamma"], [gamma for _, gamma in spy.seen], rtol=1e-12)
    assert {type(value) for values in history.values() for value in values} == {float}

    curves = read_scalars(tmp_path / "runs")
    assert sorted(curves) == sorted(set(history) - {"loss"})
    for name, curve in curves.items():
        assert [step for step, _ in curve] == [0, 1, 2]
        np.testing.assert_allclose([value for _, value in curve], history[name], rtol=1e-6)


def test_a_training_that_goes_on_writes_on(tmp_path: Path) -> None:
    model, logger = mix_model("mix"), ScalarMixLogger(tmp_path)
    model.fit(LAYERS, LABELS, epochs=1, callbacks=[logger], verbose=0)
    model.fit(LAYERS, LABELS, epochs=3, initial_epoch=1, callbacks=[logger], verbose=0)
    steps = [step for step, _ in read_scalars(tmp_path)["mix/gamma"]]
    assert sorted(steps) == [0, 1, 2]


def test_every_epoch_is_on_disk_when_the_next_begins(tmp_path: Path) -> None:
    """Who looks on sees it, and an interrupted training has it."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            seen.append(len(read_scalars(tmp_path).get("mix/gamma", [])))

    mix_model("mix").fit(LAYERS, LABELS, epochs=3, callbacks=[ScalarMixLogger(tmp_path), Look()], verbose=0)
    assert seen == [0, 1, 2]


def test_callbacks_after_it_see_the_values(tmp_path: Path) -> None:
    callbacks = [ScalarMixLogger(), keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    history = mix_model("mix").fit(LAYERS, LABELS, epochs=2, callbacks=callbacks, verbose=0).history
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mix/layer_1"]) for row in rows] == history["mix/layer_1"]


def test_the_progress_bar_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    mix_model("mix").fit(LAYERS, LABELS, callbacks=[ScalarMixLogger()], verbose=2)
    assert "mix/gamma:" in capsys.readouterr().out


def test_no_files_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mix_model("mix").fit(LAYERS, LABELS, callbacks=[ScalarMixLogger()], verbose=0)
    assert not list(tmp_path.iterdir())


def test_several_mixes_have_names_of_their_own() -> None:
    """Also where Keras gives two layers one path: a model inside a model."""
    inputs = keras.Input((None, 3, 5))
    mix = ScalarMix(name="mix", initial_scalar_parameters=[9, 0, 0])
    inner = keras.Model(inputs, SumHead()(mix(inputs)), name="inner")
    outer = keras.Model(inputs, keras.layers.Add()([inner(inputs), SumHead()(ScalarMix(name="mix")(inputs))]))
    outer.compile(keras.optimizers.SGD(0.0), "mse")
    history = outer.fit(LAYERS, LABELS, callbacks=[ScalarMixLogger()], verbose=0).history
    assert len(history) == 1 + 2 * 4
    assert history["mix/layer_0"] == pytest.approx([1 / 3])
    assert history["inner/mix/layer_0"] == pytest.approx([1], abs=1e-3)


def test_one_name_twice() -> None:
    class Twins(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = ScalarMix(name="mix"), ScalarMix(name="mix"), SumHead()

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return self.head(self.first(inputs) + self.second(inputs))

    model = Twins()
    model.compile("sgd", "mse")
    history = model.fit(LAYERS, LABELS, callbacks=[ScalarMixLogger()], verbose=0).history
    assert sorted(name for name in history if name.endswith("gamma")) == ["mix/gamma", "mix_1/gamma"]


def test_a_shared_mix_is_logged_once() -> None:
    inputs, mix = keras.Input((None, 3, 5)), ScalarMix(name="mix")
    model = keras.Model(inputs, keras.layers.Add()([SumHead()(mix(inputs)), SumHead()(mix(2 * inputs))]))
    model.compile("sgd", "mse")
    assert len(model.fit(LAYERS, LABELS, callbacks=[ScalarMixLogger()], verbose=0).history) == 1 + 4


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_the_mixes_inside_elmo_embedding(number: int, small: ElmoConfig) -> None:
    inputs, elmo = (
        keras.Input((None,), dtype="string"),
        ElmoEmbedding(small, num_output_representations=number, name="elmo"),
    )
    vectors = elmo(inputs)
    heads = [SumHead()(vector) for vector in (vectors if number > 1 else [vectors])]
    model = keras.Model(inputs, keras.layers.Add()(heads) if number > 1 else heads[0])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    history = model.fit(tokens(SENTENCES), np.ones((2, 1)), callbacks=[ScalarMixLogger()], verbose=0).history
    names = [f"elmo/{mix.name}" for mix in elmo.scalar_mixes]
    assert len(names) == number
    assert list(history)[1:] == [
        f"{name}/{part}" for name in names for part in ("layer_0", "layer_1", "layer_2", "gamma")
    ]
    for name, mix in zip(names, elmo.scalar_mixes, strict=True):
        weights = [history[f"{name}/layer_{index}"][0] for index in range(3)]
        np.testing.assert_allclose(weights, reference.softmax(mix.scalar_parameters.numpy()), rtol=1e-12)


def test_a_subclassed_model() -> None:
    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="mine")
            self.mix, self.head = ScalarMix(name="mix"), SumHead()

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return self.head(self.mix(inputs))

    model = Model()
    model.compile("sgd", "mse")
    history = model.fit(LAYERS, LABELS, callbacks=[ScalarMixLogger()], verbose=0).history
    assert "mix/layer_0" in history


def test_extreme_parameters() -> None:
    model = mix_model("mix")
    model.get_layer("mix").trainable = False
    model.get_layer("mix").scalar_parameters.assign([-9e10, 1.0, -9e10])
    history = model.fit(LAYERS, LABELS, callbacks=[ScalarMixLogger()], verbose=0).history
    assert [history[f"mix/layer_{index}"] for index in range(3)] == [[0.0], [1.0], [0.0]]


def test_a_model_without_a_mix() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)], name="plain")
    model.compile("sgd", "mse")
    with pytest.raises(InputValueError, match=r"must be used with .*`ScalarMix`\. Received: the model 'plain'.* Use "):
        model.fit(np.ones((2, 3)), np.ones((2, 1)), callbacks=[ScalarMixLogger()], verbose=0)
