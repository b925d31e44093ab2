"""ELMo in float64 NumPy: what the tests compare against.

Written from the layout of the published checkpoints (bilm-tf's ``options.json`` and ``weights.hdf5``) and
from Peters et al. 2018, "Deep contextualized word representations". One sentence and one timestep at a time:
slow, but meant to be checked by reading. In shapes, "layers" counts the token layer: ``n_layers + 1``.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Options = dict[str, Any]
Weights = dict[str, Array]
State = tuple[Array, Array]  # hidden (projection,) and memory (dim,)
States = dict[tuple[int, int, int], State]  # by row of the batch, direction (0 is forward), LSTM layer

CHARACTERS_PER_TOKEN = 50
BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PAD_CHARACTER = 257, 258, 259, 260, 261


def read_checkpoint(options_file: str | Path, weight_file: str | Path) -> tuple[Options, Weights]:
    """The options, and every dataset by its full path without the leading slash, in float64."""
    options = json.loads(Path(options_file).read_text("utf-8"))
    weights: Weights = {}

    def collect(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            weights[path] = np.asarray(item[()], dtype=np.float64)

    with h5py.File(weight_file, "r") as file:
        file.visititems(collect)
    return options, weights


def word_characters(characters: Sequence[int]) -> list[int]:
    """The 50 ids of one token made of at most 48 characters, given by their ids."""
    ids = [BEGIN_WORD, *characters, END_WORD]
    return ids + [PAD_CHARACTER] * (CHARACTERS_PER_TOKEN - len(ids))


def character_ids(sentences: Sequence[Sequence[str]], max_sequence_length: int | None = None) -> Ids:
    """Ids (batch, timesteps, 50) of tokenised sentences, zero where a sentence has no token.

    A byte is stored as byte + 1, since 0 means "no token". ``timesteps`` is ``max_sequence_length``, to
    which sentences are then cut or padded, or else the length of the longest sentence.
    """
    sentences = [sentence[:max_sequence_length] for sentence in sentences]
    timesteps = max_sequence_length
    if timesteps is None:
        timesteps = max((len(sentence) for sentence in sentences), default=0)
    ids = np.zeros((len(sentences), timesteps, CHARACTERS_PER_TOKEN), dtype=np.int64)
    for row, sentence in enumerate(sentences):
        for position, token in enumerate(sentence):
            # The cut is by bytes, so it may fall inside a character.
            encoded = token.encode("utf-8", "ignore")[: CHARACTERS_PER_TOKEN - 2]
            boundary = {"<S>": [BEGIN_SENTENCE], "</S>": [END_SENTENCE]}
            ids[row, position] = word_characters(boundary.get(token, [byte + 1 for byte in encoded]))
    return ids


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that it does not overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def relu(x: Array) -> Array:
    """The positive part."""
    return np.maximum(x, 0.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": np.tanh, "relu": relu}


def clip(x: Array, limit: float | None) -> Array:
    """``x`` within [-limit, limit]; a limit of None or 0 is no limit."""
    return np.clip(x, -limit, limit) if limit else x


def token_vector(options: Options, weights: Weights, ids: Ids) -> Array:
    """Character CNN, highway layers and projection (section 3.4 of the paper): ids (50,) -> (projection,)."""
    cnn = options["char_cnn"]
    # Id 0 is the row that the file does not store.
    table = np.concatenate([np.zeros((1, cnn["embedding"]["dim"])), weights["char_embed"]])
    characters = table[ids]  # (50, dim)

    features = []
    for i, (width, filters) in enumerate(cnn["filters"]):
        kernel = weights[f"CNN/W_cnn_{i}"][0].reshape(-1, filters)  # (width * dim, filters)
        starts = range(len(characters) - width + 1)
        windows = np.stack([characters[start : start + width].reshape(-1) for start in starts])
        convolved = windows @ kernel + weights[f"CNN/b_cnn_{i}"]  # (50 - width + 1, filters)
        features.append(ACTIVATIONS[cnn["activation"]](convolved.max(axis=0)))
    x = np.concatenate(features)

    for k in range(cnn["n_highway"]):
        high = f"CNN_high_{k}"
        carry = sigmoid(x @ weights[f"{high}/W_carry"] + weights[f"{high}/b_carry"])
        transform = relu(x @ weights[f"{high}/W_transform"] + weights[f"{high}/b_transform"])
        # The names are the file's: its "carry" gate lets the transformed input through.
        x = carry * transform + (1.0 - carry) * x
    return x @ weights["CNN_proj/W_proj"] + weights["CNN_proj/b_proj"]


def lstm_layer(options: Options, weights: Weights, cell: str, inputs: Array, state: State) -> tuple[Array, State]:
    """One LSTM with projection, over inputs (steps, projection) in order: the outputs and last state."""
    lstm = options["lstm"]
    hidden, memory = state
    outputs = []
    for x in inputs:
        gates = np.concatenate([x, hidden]) @ weights[f"{cell}/W_0"] + weights[f"{cell}/B"]
        i, j, f, o = np.split(gates, 4)
        # The 1 is TensorFlow's forget bias, which is not part of the stored bias.
        memory = sigmoid(f + 1.0) * memory + sigmoid(i) * np.tanh(j)
        memory = clip(memory, lstm.get("cell_clip"))
        hidden = clip((sigmoid(o) * np.tanh(memory)) @ weights[f"{cell}/W_P_0"], lstm.get("proj_clip"))
        outputs.append(hidden)
    return np.stack(outputs), (hidden, memory)


def bilm(
    options: Options,
    weights: Weights,
    char_ids: Ids,
    *,
    initial_states: States | None = None,
) -> tuple[Array, Mask, States]:
    """All layers of the biLM, sentence boundaries included.

    From ``char_ids`` (batch, timesteps, 50): the activations (batch, timesteps + 2, layers, 2 * projection),
    forward half first and zero at padding; the mask (batch, timesteps + 2); and the final states.

    Sentences start from zero states, or from those that ``initial_states`` has for their row of the batch.
    Feeding the returned states to the next call is what AllenNLP's ElmoLstm does: a row goes on from where it
    last ended, rows never seen start at zero, and rows beyond a smaller batch keep their state for later.
    One accident of AllenNLP's is left out: where the hidden (or memory) values of layer 0 sum to exactly 0,
    as clipped values can, it takes the row for unused and stores the sum of its old and new state.
    """
    lstm = options["lstm"]
    batch, timesteps, _ = char_ids.shape
    width = lstm["projection_dim"]
    zero_state = (np.zeros(width), np.zeros(lstm["dim"]))
    states = dict(initial_states or {})
    activations = np.zeros((batch, timesteps + 2, lstm["n_layers"] + 1, 2 * width))
    mask = np.zeros((batch, timesteps + 2), dtype=np.bool_)

    for row, ids in enumerate(char_ids):
        is_token = (ids > 0).any(axis=-1)
        length = int(is_token.sum())
        if not is_token[:length].all():
            raise ValueError(f"row {row}: padding before a token")
        begin, end = word_characters([BEGIN_SENTENCE]), word_characters([END_SENTENCE])
        sentence = np.concatenate([[begin], ids[:length], [end]])
        tokens = np.stack([token_vector(options, weights, token) for token in sentence])
        mask[row, : length + 2] = True
        activations[row, : length + 2, 0] = np.concatenate([tokens, tokens], axis=-1)

        for direction in (0, 1):
            # The backward LSTM reads the sentence from its end; its outputs are turned around again below.
            order = slice(None, None, -1) if direction else slice(None)
            half = slice(direction * width, (direction + 1) * width)
            x = tokens[order]
            for layer in range(lstm["n_layers"]):
                key = (row, direction, layer)
                cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
                outputs, states[key] = lstm_layer(options, weights, cell, x, states.get(key, zero_state))
                # Only the output has the residual: the state handed to the next timestep does not.
                x = outputs + x if layer > 0 and lstm.get("use_skip_connections") else outputs
                activations[row, : length + 2, layer + 1, half] = x[order]
    return activations, mask, states


def remove_boundaries(activations: Array, mask: Mask) -> tuple[Array, Mask]:
    """Drop each sentence's first and last token: (batch, timesteps + 2, ...) -> (batch, timesteps, ...)."""
    without = np.zeros_like(activations[:, 2:])
    without_mask = np.zeros_like(mask[:, 2:])
    for row, length in enumerate(np.maximum(mask.sum(axis=1) - 2, 0)):
        without[row, :length] = activations[row, 1 : length + 1]
        without_mask[row, :length] = True
    return without, without_mask


def softmax(scalar_parameters: ArrayLike) -> Array:
    """Softmax of a vector, shifted so that it does not overflow."""
    x = np.asarray(scalar_parameters, dtype=np.float64)
    exponentials: Array = np.exp(x - np.max(x))
    return exponentials / np.sum(exponentials)


def normalised_layers(activations: Array, mask: Mask) -> Array:
    """Layer normalisation as AllenNLP's ScalarMix has it, (batch, timesteps, layers, dim) -> same.

    Each layer has one mean and one variance, over every unmasked element of the batch, boundaries included
    (they are removed after mixing). Padding is shifted and scaled with the rest, so it does not stay zero.
    """
    normalised = np.empty_like(activations)
    for layer in range(activations.shape[2]):
        values = activations[:, :, layer]
        seen = values[mask]
        normalised[:, :, layer] = (values - seen.mean()) / np.sqrt(seen.var() + 1e-13)
    return normalised


def scalar_mix(
    activations: Array,
    mask: Mask,
    scalar_parameters: ArrayLike,
    gamma: float = 1.0,
    do_layer_norm: bool = False,
) -> Array:
    """gamma * sum_k softmax(w)_k * layer_k (equation 1 of the paper): -> (batch, timesteps, dim)."""
    layers = normalised_layers(activations, mask) if do_layer_norm else activations
    mixture: Array = np.einsum("k,btkd->btd", softmax(scalar_parameters), layers)
    return gamma * mixture


def scalar_mix_gradients(
    activations: Array,
    mask: Mask,
    scalar_parameters: ArrayLike,
    gamma: float,
    output_gradient: Array,
    do_layer_norm: bool = False,
) -> tuple[Array, float]:
    """Gradients of scalar parameters (layers,) and gamma, from that of the mix (batch, timesteps, dim)."""
    layers = normalised_layers(activations, mask) if do_layer_norm else activations
    s = softmax(scalar_parameters)
    by_layer = np.einsum("btd,btkd->k", output_gradient, layers)
    # d mix / d s_k = gamma * layer_k and d s_k / d w_l = s_k * ([k = l] - s_l)
    return gamma * s * (by_layer - s @ by_layer), float(s @ by_layer)
