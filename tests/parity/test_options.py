"""Several outputs, passages and carried states: ElmoEmbedding is AllenNLP's `Elmo` in these too."""

import functools
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layers.harness import assert_close, keras_mask, tokens

from bridge import ElmoConfig, ElmoEmbedding, batch_to_ids
from bridge.encoder.arguments import Engine
from bridge.encoder.elmo_import import import_elmo

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "boundaries": {"keep_sentence_boundaries": True},
    "layer norm": {"do_layer_norm": True},
    "layer norm, boundaries": {"do_layer_norm": True, "keep_sentence_boundaries": True},
    "fixed mix": {"scalar_mix_parameters": [0.3, 0.1, -2.0]},
    "fixed mix, layer norm": {"scalar_mix_parameters": [0.3, 0.1, -2.0], "do_layer_norm": True},
}
OUTPUTS = 3

words = st.sampled_from(["The", "cat", "sat", "é", "<S>", "x" * 60]) | st.text("ab", min_size=1, max_size=4)
sentences = st.lists(words, max_size=4)
batches = st.lists(sentences, min_size=1, max_size=3).filter(any)
Passages = list[list[list[str]]]
SOME: Passages = [[["The", "cat", "sat"], [], ["é"]], [["Hello"], ["a", "b"], ["The"]]]


class Output(NamedTuple):
    """One of several outputs, and the gradients of all of them by its mix; None where that is fixed."""

    vectors: np.ndarray
    mask: np.ndarray
    scalar_parameters: np.ndarray | None
    gamma: np.ndarray | float | None


def weights_of(index: int, shape: tuple[int, ...]) -> np.ndarray:
    """What output `index` counts in the loss."""
    return np.random.default_rng(index).normal(size=shape).astype("float32")


class Pair:
    """The layer and AllenNLP's module, with the same mixes, different for each output."""

    def __init__(self, config: ElmoConfig, **options: Any) -> None:
        self.fixed = "scalar_mix_parameters" in options
        self.layer = ElmoEmbedding(config, num_output_representations=OUTPUTS, dropout=0.0, **options)
        self.elmo = import_elmo().Elmo(config.options_file, config.weight_file, OUTPUTS, dropout=0, **options)
        self.layer.build((None, None))
        self.elmo_mixes = [getattr(self.elmo, f"scalar_mix_{index}") for index in range(OUTPUTS)]
        if self.fixed:
            return
        for index, (ours, theirs) in enumerate(zip(self.layer.scalar_mixes, self.elmo_mixes, strict=True)):
            values = np.random.default_rng(10 + index).normal(size=4)
            ours.scalar_parameters.assign(values[:3])
            ours.gamma.assign(values[3])
            with torch.no_grad():
                for parameter, value in zip([*theirs.scalar_parameters, theirs.gamma], values, strict=True):
                    parameter.fill_(value)

    def run_layer(self, inputs: Any) -> list[Output]:
        variables = [part.value for mix in self.layer.scalar_mixes for part in (mix.scalar_parameters, mix.gamma)]
        with tf.GradientTape() as tape:
            outputs = self.layer(inputs)
            loss = tf.add_n([tf.reduce_sum(x * weights_of(k, x.shape)) for k, x in enumerate(outputs)])
        gradients: list[Any] = [None] * len(variables)
        if not self.fixed:
            gradients = [gradient.numpy() for gradient in tape.gradient(loss, variables)]
        return [Output(x.numpy(), keras_mask(x).numpy(), *gradients[2 * k : 2 * k + 2]) for k, x in enumerate(outputs)]

    def run_allennlp(self, ids: np.ndarray) -> list[Output]:
        self.elmo._elmo_lstm._elmo_lstm.reset_states()
        self.elmo.zero_grad()
        result = self.elmo(torch.from_numpy(ids).long())
        vectors, mask = result["elmo_representations"], result["mask"].bool().numpy()
        if not self.fixed:
            loss = torch.zeros(())
            for k, x in enumerate(vectors):
                loss = loss + (x * torch.from_numpy(weights_of(k, tuple(x.shape)))).sum()
            loss.backward()
        return [
            Output(x.detach().numpy(), mask, None, None)
            if self.fixed
            else Output(
                x.detach().numpy(),
                mask,
                np.concatenate([parameter.grad.numpy() for parameter in mix.scalar_parameters]),
                mix.gamma.grad.numpy()[0],
            )
            for x, mix in zip(vectors, self.elmo_mixes, strict=True)
        ]


@pytest.fixture(scope="module")
def pairs(small: ElmoConfig) -> dict[str, Pair]:
    return {name: Pair(small, **options) for name, options in OPTIONS.items()}


def assert_same(received: list[Output], wanted: list[Output]) -> None:
    assert len(received) == len(wanted) == OUTPUTS
    for ours, theirs in zip(received, wanted, strict=True):
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        for part, other in zip(ours, theirs, strict=True):
            assert (part is None) == (other is None)
            if part is not None:
                assert_close(part, other, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
@settings(max_examples=6)
@example([["The", "cat", "sat"], [], ["é"]], True)
@given(batches, st.booleans())
def test_several_outputs(options: str, pairs: dict[str, Pair], batch: list[list[str]], as_strings: bool) -> None:
    pair = pairs[options]
    inputs = tokens(batch) if as_strings else batch_to_ids(batch)
    assert_same(pair.run_layer(inputs), pair.run_allennlp(batch_to_ids(batch)))


def test_the_mixes_differ(pairs: dict[str, Pair]) -> None:
    first, second, third = (output.vectors for output in pairs["plain"].run_layer(batch_to_ids(SOME[0])))
    assert min(np.abs(first - second).max(), np.abs(second - third).max()) > 1e-2


def passage_strings(passages: Passages) -> np.ndarray:
    """Strings `(batch, passages, timesteps)`."""
    width = max(len(sentence) for passage in passages for sentence in passage)
    return np.array([[s + [""] * (width - len(s)) for s in passage] for passage in passages], dtype=object)


def as_passages(output: Output, shape: tuple[int, int]) -> Output:
    """AllenNLP's own reshape: it has it in `forward`, but fails there when boundaries are kept."""
    vectors, mask = (part.reshape(*shape, *part.shape[1:]) for part in output[:2])
    return output._replace(vectors=vectors, mask=mask)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
@settings(max_examples=4)
@example(SOME, 0)
@given(
    st.integers(1, 2).flatmap(lambda n: st.lists(st.lists(sentences, min_size=n, max_size=n), min_size=1, max_size=2)),
    st.integers(0, 2),
)
def test_passages(options: str, pairs: dict[str, Pair], passages: Passages, padding: int) -> None:
    if not any(map(any, passages)):
        passages = [[*passage[1:], ["The"]] for passage in passages]
    pair, strings = pairs[options], passage_strings(passages)
    strings = np.pad(strings, [(0, 0), (0, 0), (0, padding)], constant_values="")
    shape = strings.shape[:2]
    flat = batch_to_ids([sentence for passage in passages for sentence in passage], strings.shape[-1])
    ids = flat.reshape(*strings.shape, 50)
    # The statistics of layer norm run over all passages.
    wanted = [as_passages(output, shape) for output in pair.run_allennlp(flat)]
    # The loss weighs outputs by their shape, so its gradients are compared in one and the same.
    received = pair.run_layer(ids)
    assert_same(
        [ours._replace(scalar_parameters=None, gamma=None) for ours in received],
        [theirs._replace(scalar_parameters=None, gamma=None) for theirs in wanted],
    )
    if "boundaries" not in options:
        assert_same(received, pair.run_allennlp(ids))
    for ours, again in zip(received, pair.run_layer(tf.constant(strings.tolist())), strict=True):
        np.testing.assert_array_equal(ours.vectors, again.vectors)
        np.testing.assert_array_equal(ours.mask, again.mask)


BATCHES = [
    [["The", "cat", "sat"], ["Hello"], ["a", "b"]],
    [["on"], ["the", "mat", "."], ["é"]],
    [["The", "cat"], ["again"], ["b", "a", "b", "a"]],
    [["Fewer", "rows"], ["now"]],
    [["The", "cat", "sat"], ["Hello"], ["a", "b"]],
]


def dataset() -> tf.data.Dataset:
    """Batches of different sizes, in their order."""
    rows = tf.data.Dataset.from_tensor_slices(
        batch_to_ids([sentence for batch in BATCHES for sentence in batch], max_sequence_length=4)
    )
    parts, start = [], 0
    for batch in BATCHES:
        parts.append(rows.skip(start).take(len(batch)).batch(len(batch)))
        start += len(batch)
    return functools.reduce(tf.data.Dataset.concatenate, parts)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["fused", "allennlp"])
@pytest.mark.parametrize("how", ["eager", "graph", "predict_on_batch", "predict"])
def test_the_carried_state(how: str, engine: Engine, small: ElmoConfig) -> None:
    """Over successive batches, each row goes on from where it was: AllenNLP's own behaviour."""
    elmo = import_elmo().Elmo(small.options_file, small.weight_file, 1, dropout=0)
    elmo._elmo_lstm._elmo_lstm.reset_states()
    layer = ElmoEmbedding(small, state="carry", engine=engine, dropout=0.0)
    model = keras.Sequential([keras.Input((None, 50), dtype="int32"), layer])
    batches_of_ids = [batch_to_ids(batch, max_sequence_length=4) for batch in BATCHES]
    for _ in range(2):  # the second time from the start again
        with torch.no_grad():
            wanted = [elmo(torch.from_numpy(ids).long())["elmo_representations"][0].numpy() for ids in batches_of_ids]
        if how == "predict":
            received = np.split(model.predict(dataset(), verbose=0), np.cumsum([len(batch) for batch in BATCHES[:-1]]))
        else:
            call = {"eager": layer, "graph": tf.function(layer), "predict_on_batch": model.predict_on_batch}[how]
            received = [call(tf.constant(ids)) for ids in batches_of_ids]
        for ours, theirs in zip(received, wanted, strict=True):
            assert_close(ours, theirs)
        assert np.abs(wanted[-1] - wanted[0]).max() > 1e-3, "this test cannot see the state"
        layer.reset_states()
        elmo._elmo_lstm._elmo_lstm.reset_states()
