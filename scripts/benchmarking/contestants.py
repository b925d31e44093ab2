"""The contestants of the benchmark, all on the same weights."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import bridge
from benchmarking.text import Batch
from bridge import Checkpoint, ElmoConfig, ElmoEncoder, batch_to_ids
from bridge.encoder.arguments import Engine
from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.linear import Linear, Precision
from bridge.errors import MissingDependencyError, UnsupportedError
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.sizes import Size, options_of_size
from bridge.pretrain.weights import initial_weights


@dataclass(frozen=True)
class Contestant:
    """What is timed.

    Attributes:
        name: for tables.
        what: `"vectors"`, or `"character ids"`.
        run: reads a batch.
        precision: of its products.
        encoder: whose cache of token vectors is at work, if any is.
    """

    name: str
    what: str
    run: Callable[[Batch], object]
    precision: Precision = "float32"
    encoder: ElmoEncoder | None = None


def random_checkpoint(folder: Path, size: Size) -> ElmoConfig:
    """Random weights of a model's size."""
    options = options_of_size(size)
    return write_checkpoint(folder, options, initial_weights(options, seed=0))


def pairs(engines: list[Engine], precisions: list[Precision]) -> list[tuple[Engine, Precision]]:
    """Engines with the precisions that they have: AllenNLP's computes in float32 alone."""
    return [
        (engine, precision)
        for engine in engines
        for precision in precisions
        if engine == "fused" or precision == "float32"
    ]


def kernels(precision: Precision) -> str:
    """Which products run on this processor, in words."""
    linear = Linear(torch.ones(16, 16), None, precision, torch.device("cpu"))
    native = linear.dtype == getattr(torch, precision)
    return ("packed oneDNN" if linear.packed else "plain torch.mm") + (
        ""
        if precision == "float32"
        else ", native"
        if native
        else f", rounded to {precision} and multiplied in float32"
    )


def allennlp_elmo(checkpoint: Checkpoint) -> Any:
    """AllenNLP's `Elmo`."""
    elmo = import_elmo().Elmo(str(checkpoint.options_file), str(checkpoint.weight_file), 1, dropout=0.0)
    return elmo.eval()


def character_id_contestants() -> list[Contestant]:
    """AllenNLP's function and the bridge's."""
    theirs = import_elmo().batch_to_ids
    return [
        Contestant("AllenNLP batch_to_ids", "character ids", lambda batch: theirs(batch.sentences)),
        Contestant("bridge batch_to_ids", "character ids", lambda batch: batch_to_ids(batch.sentences)),
    ]


def allennlp_contestant(checkpoint: Checkpoint) -> Contestant:
    """AllenNLP's `Elmo`, the state reset before each call."""
    elmo = allennlp_elmo(checkpoint)

    def run(batch: Batch) -> object:
        elmo._elmo_lstm._elmo_lstm.reset_states()
        with torch.no_grad():
            return elmo(batch.torch_ids)

    return Contestant("AllenNLP Elmo", "vectors", run)


def encoder_contestant(checkpoint: Checkpoint, engine: Engine, precision: Precision, **arguments: Any) -> Contestant:
    """`ElmoEncoder`; the arguments are its own."""
    encoder = ElmoEncoder(checkpoint, engine=engine, precision=precision, **arguments)
    cached = encoder if engine == "fused" else None
    name = f"ElmoEncoder {engine} {precision}"
    return Contestant(name, "vectors", lambda batch: encoder(batch.char_ids), precision, cached)


def keras_contestant(checkpoint: Checkpoint, engine: Engine, precision: Precision) -> Contestant:
    """`ElmoEmbedding` in a model's `predict`, a batch a call. Imports TensorFlow."""
    keras, tf = importlib.import_module("keras"), importlib.import_module("tensorflow")
    layer = bridge.ElmoEmbedding(checkpoint, output_mode="all", dropout=0.0, engine=engine, precision=precision)
    model = keras.Sequential([keras.Input((None, 50), dtype="int32"), layer])
    # One signature for batches of any shape: `predict` would make a new graph for each.
    signature = tf.TensorSpec((None, None, 50), tf.int32)
    # A dataset that goes waits for the next tick of its autotuning, of 0.01, 0.03, 0.07 ... 0.63, 1.27 s.
    options = tf.data.Options()
    options.autotune.enabled = False

    def run(batch: Batch) -> object:
        data = tf.data.Dataset.from_generator(lambda: iter([batch.char_ids]), output_signature=signature)
        data = data.apply(tf.data.experimental.assert_cardinality(1)).with_options(options)
        return model.predict(data, verbose=0)

    cached = layer.encoder if engine == "fused" else None
    return Contestant(f"ElmoEmbedding {engine} {precision}", "vectors", run, precision, cached)


def simple_elmo_contestant(checkpoint: Checkpoint, folder: Path, batch_size: int) -> Contestant:
    """`simple_elmo`, from tokens, in one session. Imports TensorFlow, and switches its eager execution off for good.

    Raises:
        MissingDependencyError, UnsupportedError: why it can't take part.
    """
    if importlib.util.find_spec("simple_elmo") is None:
        raise MissingDependencyError("it is not installed")
    if checkpoint.options.char_cnn.n_characters != 262:
        raise UnsupportedError("it needs n_characters 262 in the options")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported
    level = logging.getLogger().level
    try:
        tf = importlib.import_module("tensorflow")
        model = importlib.import_module("simple_elmo").ElmoModel()
    except ImportError as error:
        raise MissingDependencyError(f"it can't be imported, and may need the package tf_keras ({error})") from error
    logging.getLogger().setLevel(level)  # it logs every batch
    (folder / "options.json").symlink_to(checkpoint.options_file.resolve())
    (folder / "model.hdf5").symlink_to(checkpoint.weight_file.resolve())
    model.load(str(folder), max_batch_size=batch_size)
    # The first call makes the graph; without a session, every later one would make it again.
    model.get_elmo_vectors([["one"]], warmup=False, layers="all")
    threads = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=torch.get_num_threads())
    session = tf.compat.v1.Session(config=threads)
    session.run(tf.compat.v1.global_variables_initializer())

    def run(batch: Batch) -> object:
        return model.get_elmo_vectors(batch.sentences, warmup=False, layers="all", session=session)

    return Contestant("simple_elmo, from tokens", "vectors", run)
