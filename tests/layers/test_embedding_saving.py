"""Models with ElmoEmbedding on disk: what is saved, what is refused, and what a fresh process reads."""

import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import SENTENCES, tokens
from models import random_model

from bridge import ElmoConfig, ElmoEmbedding
from bridge.errors import CheckpointError, ResourceNotFoundError, UnsupportedError

TOKENS = tokens(SENTENCES)


def make_model(config: Any, **arguments: Any) -> keras.Model:
    inputs = keras.Input((None,), dtype="string")
    pooled = keras.layers.GlobalAveragePooling1D()(ElmoEmbedding(config, dropout=0.0, **arguments)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
    for number, weight in enumerate(model.weights, start=1):  # as if trained
        weight.assign(weight + 0.1 * number)
    return model


@pytest.fixture(scope="module")
def model(small: ElmoConfig) -> keras.Model:
    return make_model(small)


def write_model_with_weights(folder: Path, **arguments: Any) -> Path:
    """A saved model whose ELMo weights lie in the same folder."""
    make_model(random_model(folder), **arguments).save(folder / "model.keras")
    return folder / "model.keras"


def test_elmos_own_weights_are_not_saved(model: keras.Model) -> None:
    """The config names them and their fingerprint; only what trains is a Keras weight."""
    layer = model.layers[1]
    assert [weight.path.partition("/")[2] for weight in layer.weights] == [
        "representations/scalar_mix/scalar_parameters",
        "representations/scalar_mix/gamma",
    ]
    assert layer.get_config()["config"]["weight_file"] == layer.checkpoint.config.weight_file
    assert layer.get_config()["fingerprint"] == layer.checkpoint.fingerprint


def test_save_weights(model: keras.Model, small: ElmoConfig, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "model.weights.h5")
    other = make_model(small)
    other.layers[1].scalar_mix.gamma.assign(9.0)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other(TOKENS), model(TOKENS))


@pytest.mark.parametrize("arguments", [{"engine": "allennlp"}, {"engine": "fused", "precision": "bfloat16"}])
def test_engine_and_precision_are_saved(arguments: dict[str, str], small: ElmoConfig, tmp_path: Path) -> None:
    model = make_model(small, **arguments)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    encoder = loaded.layers[1].encoder
    assert {name: getattr(encoder, name) for name in arguments} == arguments
    np.testing.assert_array_equal(loaded(TOKENS), model(TOKENS))
    other = make_model(small)
    other.set_weights(model.get_weights())
    difference = np.abs(other(TOKENS) - model(TOKENS)).max()
    assert 1e-5 < difference < 0.1 if "precision" in arguments else difference < 1e-5


def test_a_model_from_before_there_was_a_precision_is_float32(small: ElmoConfig) -> None:
    config = ElmoEmbedding(small).get_config()
    del config["precision"]
    assert ElmoEmbedding.from_config(config).encoder.precision == "float32"


def test_fine_tuning_runs_allennlps_own_bilm(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, requires_grad=True)
    assert (layer.encoder.engine, layer.get_config()["engine"]) == ("allennlp", "auto")
    assert ElmoEmbedding(small).encoder.engine == "fused"


def test_checkpoints_of_tensorflow(model: keras.Model, small: ElmoConfig, tmp_path: Path) -> None:
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    other = make_model(small)
    other.layers[1].scalar_mix.gamma.assign(9.0)
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other(TOKENS), model(TOKENS))


def test_pickle_and_json(model: keras.Model) -> None:
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(TOKENS), model(TOKENS))
    architecture = keras.models.model_from_json(model.to_json())
    assert architecture.layers[1].get_config() == model.layers[1].get_config()


def test_a_frozen_layer_stays_frozen(tmp_path: Path) -> None:
    loaded = keras.models.load_model(write_model_with_weights(tmp_path, trainable=False))
    assert len(loaded.trainable_weights) == 2  # the Dense layer's
    loaded.layers[1].trainable = True
    assert len(loaded.trainable_weights) == 4


def test_an_ini_file_is_saved_by_its_path(tmp_path: Path) -> None:
    random_model(tmp_path)
    ini = tmp_path / "elmo.ini"
    ini.write_text("[ELMO]\noptions_file = options.json\nweight_file = weights.hdf5\n")
    make_model(ini).save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").layers[1].config == str(ini)


def test_weights_from_the_environment_are_read_from_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELMO_OPTIONS_FILE", random_model(tmp_path).options_file)
    monkeypatch.setenv("ELMO_WEIGHT_FILE", str(tmp_path / "weights.hdf5"))
    make_model(None).save(tmp_path / "model.keras")
    (tmp_path / "moved").mkdir()
    for name in ("options.json", "weights.hdf5"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    monkeypatch.setenv("ELMO_OPTIONS_FILE", str(tmp_path / "moved/options.json"))
    monkeypatch.setenv("ELMO_WEIGHT_FILE", str(tmp_path / "moved/weights.hdf5"))
    assert keras.models.load_model(tmp_path / "model.keras").layers[1].config is None


def test_other_weights_than_saved_are_refused(tmp_path: Path) -> None:
    path = write_model_with_weights(tmp_path)
    random_model(tmp_path, seed=1)
    with pytest.raises(
        CheckpointError, match=r"(?s)must be loaded with the ELMo weights .*Put the original files back"
    ):
        keras.models.load_model(path)


def test_weights_replaced_before_the_save_are_refused_too(tmp_path: Path) -> None:
    model = make_model(random_model(tmp_path))
    random_model(tmp_path, seed=1)
    model.save(tmp_path / "model.keras")
    with pytest.raises(CheckpointError, match="must be loaded with the ELMo weights that it was trained on"):
        keras.models.load_model(tmp_path / "model.keras")


def test_a_model_can_be_saved_after_its_weight_files_went(tmp_path: Path) -> None:
    model = make_model(random_model(tmp_path))
    (tmp_path / "weights.hdf5").unlink()
    (tmp_path / "options.json").unlink()
    model.save(tmp_path / "model.keras")
    random_model(tmp_path)  # and they are back
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(TOKENS), model(TOKENS))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = write_model_with_weights(tmp_path)
    (tmp_path / "weights.hdf5").unlink()
    with pytest.raises(
        ResourceNotFoundError,
        match=r"(?s)must be loaded with the ELMo weights .*`weight_file` must name a file.*ELMO_WEIGHT_FILE",
    ):
        keras.models.load_model(path)


def test_exports_are_refused_with_a_way_out(model: keras.Model, tmp_path: Path) -> None:
    """TensorFlow would write a file that fails, or runs another function, in another process."""
    message = (
        r"can't be exported as a SavedModel, to TFLite.*Use `model\.save` with a `\.keras` file, or export the head"
    )
    with pytest.raises(UnsupportedError, match=message):
        model.export(tmp_path / "exported", verbose=False)
    for export_format, name in [("onnx", "exported.onnx"), ("litert", "exported.tflite")]:
        with pytest.raises(UnsupportedError, match=message):
            model.export(tmp_path / name, format=export_format, verbose=False)
    with pytest.raises(UnsupportedError, match=message):
        tf.lite.TFLiteConverter.from_keras_model(model).convert()
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model, [tf.TensorSpec((None, None), tf.string)])
    with pytest.raises(UnsupportedError, match=message):
        archive.write_out(tmp_path / "exported", verbose=False)
    with pytest.raises(UnsupportedError, match=message):
        tf.saved_model.save(model, str(tmp_path / "exported"))
    with pytest.raises(UnsupportedError, match=message):
        tf.saved_model.save(model.layers[1], str(tmp_path / "exported"))
    assert not list(tmp_path.glob("exported*/*.pb")) + list(tmp_path.glob("exported.*"))
    model.save(tmp_path / "still_works.keras")


def test_tflite_converts_other_models_as_before() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert tf.lite.TFLiteConverter.from_keras_model(model).convert()
