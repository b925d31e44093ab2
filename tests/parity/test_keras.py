"""ElmoEmbedding is AllenNLP's `Elmo.forward`, and both are the ELMo of the paper as tests/reference.py has it."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import reference
import tensorflow as tf
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layers.harness import assert_close, keras_mask

from bridge import ElmoConfig, ElmoEmbedding, batch_to_ids
from bridge.encoder.arguments import Engine
from bridge.encoder.elmo_import import import_elmo

PARAMETERS, GAMMA = [0.7, -1.2, 0.4], 1.5  # of the mix

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "boundaries": {"keep_sentence_boundaries": True},
    "layer norm": {"do_layer_norm": True},
    "layer norm, boundaries": {"do_layer_norm": True, "keep_sentence_boundaries": True},
    "fixed mix": {"scalar_mix_parameters": [0.3, 0.1, -2.0]},
    "one layer": {"scalar_mix_parameters": [-9e10, 1.0, -9e10], "do_layer_norm": True},
    "AllenNLP's engine": {"engine": "allennlp"},
    "AllenNLP's engine, layer norm, boundaries": {
        "engine": "allennlp",
        "do_layer_norm": True,
        "keep_sentence_boundaries": True,
    },
}

words = st.sampled_from(["The", "cat", "sat", "é", "日本語", "<S>", "x" * 60]) | st.text("ab", min_size=1, max_size=4)
# AllenNLP has no result for a batch without any timestep.
batches = st.lists(st.lists(words, max_size=5), min_size=1, max_size=4).filter(any)
RAGGED = [["The", "cat", "sat"], [], ["é"]]


class Result(NamedTuple):
    """A forward pass, and the gradients of `sum(vectors * weights)` by the mix; None where it is fixed."""

    vectors: np.ndarray
    mask: np.ndarray
    scalar_parameters: np.ndarray | None
    gamma: np.ndarray | float | None


def gradient_weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


class Trio:
    """One model three times: the layer, AllenNLP's module and the float64 reference."""

    def __init__(self, config: ElmoConfig, engine: Engine = "fused", **options: Any) -> None:
        self.options = options
        self.fixed = "scalar_mix_parameters" in options
        self.layer = ElmoEmbedding(config, dropout=0.0, engine=engine, **options)
        self.elmo = import_elmo().Elmo(config.options_file, config.weight_file, 1, dropout=0, **options)
        self.checkpoint = reference.read_checkpoint(config.options_file, config.weight_file)
        self.layer.build((None, None))
        if not self.fixed:
            self.layer.scalar_mix.scalar_parameters.assign(PARAMETERS)
            self.layer.scalar_mix.gamma.assign(GAMMA)
            with torch.no_grad():
                for parameter, value in zip(self.elmo.scalar_mix_0.scalar_parameters, PARAMETERS, strict=True):
                    parameter.fill_(value)
                self.elmo.scalar_mix_0.gamma.fill_(GAMMA)

    def run_layer(self, inputs: Any) -> Result:
        with tf.GradientTape() as tape:
            vectors = self.layer(inputs)
            loss = tf.reduce_sum(vectors * gradient_weights(vectors.shape))
        gradients = [None, None]
        if not self.fixed:
            mix = self.layer.scalar_mix
            gradients = [part.numpy() for part in tape.gradient(loss, [mix.scalar_parameters.value, mix.gamma.value])]
        return Result(vectors.numpy(), keras_mask(vectors).numpy(), *gradients)

    def run_allennlp(self, sentences: list[list[str]]) -> Result:
        self.elmo._elmo_lstm._elmo_lstm.reset_states()
        self.elmo.zero_grad()
        output = self.elmo(torch.from_numpy(batch_to_ids(sentences)).long())
        [vectors] = output["elmo_representations"]
        mask = output["mask"].bool().numpy()
        if self.fixed:
            return Result(vectors.detach().numpy(), mask, None, None)
        (vectors * torch.from_numpy(gradient_weights(tuple(vectors.shape)))).sum().backward()
        mix = self.elmo.scalar_mix_0
        by_parameter = np.concatenate([parameter.grad.numpy() for parameter in mix.scalar_parameters])
        return Result(vectors.detach().numpy(), mask, by_parameter, mix.gamma.grad.numpy()[0])

    def run_reference(self, sentences: list[list[str]]) -> Result:
        activations, mask, _ = reference.bilm(*self.checkpoint, reference.character_ids(sentences))
        keep, norm = (self.options.get(name, False) for name in ("keep_sentence_boundaries", "do_layer_norm"))
        parameters, gamma = (self.options["scalar_mix_parameters"], 1.0) if self.fixed else (PARAMETERS, GAMMA)
        mixture = reference.scalar_mix(activations, mask, parameters, gamma, norm)
        vectors, token_mask = (mixture, mask) if keep else reference.remove_boundaries(mixture, mask)
        if self.fixed:
            return Result(vectors, token_mask, None, None)
        by_output = gradient_weights(vectors.shape).astype("float64")
        if not keep:  # the gradient of the mix before its boundaries were dropped
            kept, dropped = by_output, np.zeros_like(mixture)
            for row, length in enumerate(token_mask.sum(axis=1)):
                dropped[row, 1 : length + 1] = kept[row, :length]
            by_output = dropped
        by_mix = reference.scalar_mix_gradients(activations, mask, parameters, gamma, by_output, norm)
        return Result(vectors, token_mask, *by_mix)


@pytest.fixture(scope="module")
def trios(small: ElmoConfig) -> dict[str, Trio]:
    return {name: Trio(small, **options) for name, options in OPTIONS.items()}


@pytest.mark.parametrize("options", OPTIONS)
@settings(max_examples=10)
@example(RAGGED, True)
@given(batches, st.booleans())
def test_values_masks_and_gradients(
    options: str, trios: dict[str, Trio], sentences: list[list[str]], as_strings: bool
) -> None:
    trio = trios[options]
    inputs = tf.ragged.constant(sentences, ragged_rank=1, dtype=tf.string).to_tensor()
    ours = trio.run_layer(inputs if as_strings else batch_to_ids(sentences))
    for other in (trio.run_allennlp(sentences), trio.run_reference(sentences)):
        np.testing.assert_array_equal(ours.mask, other.mask)
        for part, wanted in zip(ours, other, strict=True):
            assert (part is None) == (wanted is None)
            if part is not None:
                assert_close(part, wanted, 1e-5)
