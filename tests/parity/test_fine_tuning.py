"""Fine-tuning from Keras is fine-tuning in PyTorch: AllenNLP's own gradients, and its weights after 20 steps."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layers.harness import assert_close
from layers.tuning import tiny_model, tunable

from bridge import ElmoConfig, ElmoEmbedding, batch_to_ids
from bridge.encoder.elmo_import import import_elmo

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "boundaries": {"keep_sentence_boundaries": True},
    "layer norm": {"do_layer_norm": True},
    "layer norm, boundaries": {"do_layer_norm": True, "keep_sentence_boundaries": True},
    "fixed mix": {"scalar_mix_parameters": [0.25, -2.0]},
    "two outputs": {"num_output_representations": 2},
}
words = st.sampled_from(["The", "cat", "é", "日本語", "<S>", "x" * 60]) | st.text("ab", min_size=1, max_size=4)
batches = st.lists(st.lists(words, max_size=4), min_size=1, max_size=3).filter(any)
SENTENCES = [["The", "cat", "sat"], ["Hello"], ["a", "b"], ["on", "the", "mat", "."]]
IDS = batch_to_ids(SENTENCES)
LABELS = np.linspace(-1, 1, 4)[:, np.newaxis]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ElmoConfig:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def allennlp(config: ElmoConfig, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    """AllenNLP's own module, which trains."""
    arguments = {"num_output_representations": 1, "requires_grad": True, "dropout": 0, **options}
    return import_elmo().Elmo(config.options_file, config.weight_file, **arguments).to(dtype)


def pairs(layer: ElmoEmbedding, elmo: Any) -> Iterator[tuple[Any, list[torch.Tensor]]]:
    """Each variable of the layer, and the parameters of AllenNLP's that it is."""
    parameters = dict(elmo._elmo_lstm.named_parameters())
    for variable in layer.bilm.weights:
        yield variable, [parameters.pop(variable.name)]
    assert not parameters
    for index, mix in enumerate(layer.scalar_mixes):
        theirs = getattr(elmo, f"scalar_mix_{index}")
        yield mix.scalar_parameters, list(theirs.scalar_parameters)
        yield mix.gamma, [theirs.gamma]


def numbers(tensors: list[torch.Tensor], shape: tuple[int, ...], of_gradients: bool = False) -> np.ndarray:
    arrays = [np.asarray(tensor.grad if of_gradients else tensor.detach()) for tensor in tensors]
    return np.concatenate([array.ravel() for array in arrays]).reshape(shape)


def factors(index: int, shape: Any) -> np.ndarray:
    """Another weight for each element of each output."""
    return np.cos(np.arange(np.prod(tuple(shape))) + index).reshape(shape)


def check_gradients(layer: ElmoEmbedding, elmo: Any, sentences: list[list[str]], tolerance: float) -> None:
    char_ids = batch_to_ids(sentences)
    elmo._elmo_lstm._elmo_lstm.reset_states()
    elmo.zero_grad()
    theirs = elmo(torch.from_numpy(char_ids).long())["elmo_representations"]
    sum((one * torch.from_numpy(factors(k, one.shape))).sum() for k, one in enumerate(theirs)).backward()
    with tf.GradientTape() as tape:
        ours = tf.nest.flatten(layer(char_ids, training=True))
        total = tf.add_n([tf.reduce_sum(one * tf.cast(factors(k, one.shape), one.dtype)) for k, one in enumerate(ours)])
    trained = [(weight, parameters) for weight, parameters in pairs(layer, elmo) if weight.trainable]
    assert len(trained) == len(layer.trainable_weights)
    found = tape.gradient(total, [weight.value for weight, _ in trained])
    for (weight, parameters), gradient in zip(trained, found, strict=True):
        assert_close(gradient, numbers(parameters, weight.shape, of_gradients=True), tolerance)


@pytest.mark.parametrize("options", OPTIONS)
@settings(max_examples=5)
@example([["The", "cat", "sat"], [], ["é"]])
@given(batches)
def test_gradients(options: str, duos: dict[str, tuple[ElmoEmbedding, Any]], sentences: list[list[str]]) -> None:
    check_gradients(*duos[options], sentences, 1e-10)


@pytest.fixture(scope="module")
def duos(tiny: ElmoConfig) -> dict[str, tuple[ElmoEmbedding, Any]]:
    """The layer and AllenNLP's module, both in float64: any difference is a mistake."""
    return {
        name: (tunable(tiny, dtype="float64", **options), allennlp(tiny, **options))
        for name, options in OPTIONS.items()
    }


def test_gradients_in_float32(small: ElmoConfig) -> None:
    check_gradients(tunable(small), allennlp(small, torch.float32), SENTENCES, 1e-6)


Optimizers = tuple[Callable[[], Any], Callable[[Any], Any]]
OPTIMIZERS: dict[str, Optimizers] = {
    # Fractions of 2: Keras rounds these numbers to float32, whatever the policy.
    "momentum": (
        lambda: keras.optimizers.SGD(2**-6, momentum=0.875),
        lambda parameters: torch.optim.SGD(parameters, 2**-6, momentum=0.875),
    ),
    # Keras and PyTorch add epsilon in other places.
    "Adam": (
        lambda: keras.optimizers.Adam(2**-6, beta_1=0.875, beta_2=0.984375, epsilon=1e-14),
        lambda parameters: torch.optim.Adam(parameters, 2**-6, betas=(0.875, 0.984375), eps=1e-14),
    ),
    "decay and clipping": (
        lambda: keras.optimizers.AdamW(
            2**-6, weight_decay=2**-4, beta_1=0.875, beta_2=0.984375, epsilon=1e-14, global_clipnorm=0.25
        ),
        lambda parameters: torch.optim.AdamW(parameters, 2**-6, weight_decay=2**-4, betas=(0.875, 0.984375), eps=1e-14),
    ),
    "accumulation": (
        lambda: keras.optimizers.SGD(2**-6, gradient_accumulation_steps=2),
        lambda parameters: torch.optim.SGD(parameters, 2**-6),
    ),
}


def train_in_pytorch(elmo: Any, optimizer: Any, name: str, state: str) -> None:
    for step in range(20):
        rows = slice(0, 2) if step % 2 == 0 else slice(2, 4)
        if state == "zero":
            elmo._elmo_lstm._elmo_lstm.reset_states()
        [vectors] = elmo(torch.from_numpy(IDS[rows]).long())["elmo_representations"]
        loss = ((vectors[:, 0].sum(dim=-1, keepdim=True) - torch.from_numpy(LABELS[rows])) ** 2).mean()
        (loss / 2 if name == "accumulation" else loss).backward()
        if name == "accumulation" and step % 2 == 0:
            continue
        if name == "decay and clipping":
            # PyTorch's own adds 1e-6 to the norm.
            norm = torch.stack([parameter.grad.norm() for parameter in elmo.parameters()]).norm()
            assert norm > 0.25, "nothing is clipped"
            for parameter in elmo.parameters():
                parameter.grad *= 0.25 / norm
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "state", "run_eagerly"),
    [
        *(("momentum", "zero", False), ("Adam", "carry", False)),
        *(("decay and clipping", "zero", True), ("accumulation", "carry", True)),
    ],
)
def test_weights_after_20_steps_of_fit(name: str, state: str, run_eagerly: bool, tiny: ElmoConfig) -> None:
    in_keras, in_pytorch = OPTIMIZERS[name]
    layer, elmo = tunable(tiny, dtype="float64", state=state), allennlp(tiny)
    before = [weight.numpy() for weight, _ in pairs(layer, elmo)]
    inputs = keras.Input((None, 50), dtype="int32")
    model = keras.Model(inputs, keras.ops.sum(layer(inputs)[:, 0], axis=-1, keepdims=True))
    model.compile(in_keras(), keras.losses.MeanSquaredError(dtype="float64"), run_eagerly=run_eagerly)
    model.fit(IDS, LABELS, batch_size=2, epochs=10, shuffle=False, verbose=0)
    train_in_pytorch(elmo, in_pytorch(elmo.parameters()), name, state)
    for old, (weight, parameters) in zip(before, pairs(layer, elmo), strict=True):
        assert_close(weight.numpy(), numbers(parameters, weight.shape), 1e-7)
        assert np.abs(weight.numpy() - old).max() > 1e-5, f"{weight.path} did not train"
