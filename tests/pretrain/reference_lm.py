"""The loss of a biLM in float64 NumPy: what the tests of training compare against.

Written from Peters et al. 2018, the layout of bilm-tf's weights and, for the adaptive softmax, Grave et al. 2017,
"Efficient softmax approximation for GPUs". Token vectors come from `tests/reference.py`. In shapes, `layers` counts
the token layer, and of the two directions 0 is forward; positions of both are in the order in which they are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from reference import Array, Ids, Options, Weights, sigmoid, token_vector

State = tuple[Array, Array]  # hidden (n_layers, 2, batch, projection), cell (n_layers, 2, batch, dim)


class Step(NamedTuple):
    """What a step over a batch gives.

    Attributes:
        losses: `(2,)`, mean negative log likelihood of each direction in nats.
        state: after the last position.
        layers: `(layers, 2, unroll_steps, batch, projection)`.
    """

    losses: Array
    state: State
    layers: Array


@dataclass
class Kinks:
    """Where the loss has no derivative: how often values were cut, and how near the nearest one is to its limit."""

    cut: dict[str, int] = field(default_factory=lambda: {"cell_clip": 0, "proj_clip": 0})
    distance: float = np.inf

    def clip(self, values: Array, name: str, limit: float | None) -> Array:
        """`values` within the limit; None or 0 is no limit."""
        if not limit:
            return values
        self.cut[name] += int((np.abs(values) > limit).sum())
        self.distance = min(self.distance, float(np.abs(np.abs(values) - limit).min()))
        return np.clip(values, -limit, limit)


def token_vectors(options: Options, weights: Weights, char_ids: Ids) -> Array:
    """The vectors of tokens: ids (tokens, 50) to (tokens, projection)."""
    return np.stack([token_vector(options, weights, ids) for ids in char_ids])


def language_model_step(
    options: Options,
    weights: Weights,
    softmax: Mapping[str, Array],
    tokens: Array,
    inputs: Ids,
    targets: Ids,
    state: State,
    kinks: Kinks | None = None,
) -> Step:
    """The loss of one step.

    Args:
        options, weights: as `reference.read_checkpoint` gives them.
        softmax: of `full_losses` or of `adaptive_losses`.
        tokens: the vectors of the batch's tokens.
        inputs: `(2, unroll_steps, batch)`, which of them each position reads.
        targets: `(2, unroll_steps, batch)`, -1 where there is nothing to predict.
        state: before the first position.
        kinks: told what was cut.
    """
    kinks = kinks or Kinks()
    hidden, memory = state[0].copy(), state[1].copy()
    layers = [tokens[inputs]]
    for layer in range(options["lstm"]["n_layers"]):
        outputs = np.empty_like(layers[0])
        for direction in (0, 1):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            for step, x in enumerate(layers[-1][direction]):
                hidden[layer, direction], memory[layer, direction] = lstm_step(
                    options, weights, cell, x, (hidden[layer, direction], memory[layer, direction]), kinks
                )
                outputs[direction, step] = hidden[layer, direction]
        # The residual is of the output alone: neither the state nor the first LSTM layer has it.
        layers.append(outputs + layers[-1] if layer > 0 else outputs)
    negative_log_likelihood = full_losses if "weight" in softmax else adaptive_losses
    losses = np.zeros(2)
    for direction in (0, 1):
        predicted = targets[direction] >= 0
        if predicted.any():
            vectors = layers[-1][direction][predicted]
            losses[direction] = negative_log_likelihood(softmax, vectors, targets[direction][predicted]).mean()
    return Step(losses, (hidden, memory), np.stack(layers))


def lstm_step(options: Options, weights: Weights, cell: str, x: Array, state: State, kinks: Kinks) -> State:
    """One position of a batch: inputs (batch, projection) and state to the new state."""
    hidden, memory = state
    gates = np.concatenate([x, hidden], axis=1) @ weights[f"{cell}/W_0"] + weights[f"{cell}/B"]
    i, j, f, o = np.split(gates, 4, axis=1)
    # The 1 is TensorFlow's forget bias, which is not part of the stored bias.
    memory = sigmoid(f + 1.0) * memory + sigmoid(i) * np.tanh(j)
    memory = kinks.clip(memory, "cell_clip", options["lstm"]["cell_clip"])
    projected = (sigmoid(o) * np.tanh(memory)) @ weights[f"{cell}/W_P_0"]
    return kinks.clip(projected, "proj_clip", options["lstm"]["proj_clip"]), memory


def log_softmax(logits: Array) -> Array:
    """Logarithms of the probabilities along the last axis, shifted so that nothing overflows."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    difference: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return difference


def full_losses(softmax: Mapping[str, Array], vectors: Array, targets: Ids) -> Array:
    """-log p of each target: `weight` (vocabulary, projection) and `bias` (vocabulary,)."""
    log_probabilities = log_softmax(vectors @ softmax["weight"].T + softmax["bias"])
    return -log_probabilities[np.arange(len(targets)), targets]


def adaptive_losses(softmax: Mapping[str, Array], vectors: Array, targets: Ids) -> Array:
    """-log p of each target, by clusters of words.

    `head` (frequent words + clusters, projection) and `head_bias` give the probability of each frequent word and of
    each cluster of rarer ones; within cluster i, `tail_i_down` (smaller, projection) and `tail_i` (words, smaller)
    give that of its words.
    """
    clusters = sum(name.endswith("_down") for name in softmax)
    frequent = len(softmax["head"]) - clusters
    head = log_softmax(vectors @ softmax["head"].T + softmax["head_bias"])
    parts = [head[:, :frequent]]
    for cluster in range(clusters):
        inside = log_softmax(vectors @ softmax[f"tail_{cluster}_down"].T @ softmax[f"tail_{cluster}"].T)
        parts.append(head[:, frequent + cluster, np.newaxis] + inside)
    return -np.concatenate(parts, axis=1)[np.arange(len(targets)), targets]


def zero_state(options: Options, batch: int) -> State:
    """The state before any text."""
    lstm = options["lstm"]
    hidden, memory = (np.zeros((lstm["n_layers"], 2, batch, lstm[name])) for name in ("projection_dim", "dim"))
    return hidden, memory
