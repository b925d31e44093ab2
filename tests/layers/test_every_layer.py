"""Every layer goes through the harness, ElmoEmbedding in each of its modes."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from layers.harness import (
    MASK,
    SENTENCES,
    LayerCase,
    check_config,
    check_layer,
    check_mask_and_weights,
    ids,
    tokens,
)

from bridge import (
    CharacterIds,
    ElmoConfig,
    ElmoEmbedding,
    ScalarMix,
    VocabularyCharacterIds,
    WhitespaceTokenizer,
    batch_to_ids,
)

TIME, DIM, LAYERS = 3, 12, 3  # of SENTENCES and of the small model
WITH_BOUNDARIES = np.array([[True] * 5, [True] * 3 + [False] * 2])
CUT_TO_2 = MASK[:, :2]


def random_layers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_character_ids(tmp_path: Path) -> None:
    make = partial(CharacterIds, tokens_to_add={"<unk>": 1})
    check_layer(LayerCase(make, tokens(SENTENCES), (0, 1), (2, TIME, 50), "int32", MASK), tmp_path)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_vocabulary_character_ids(dtype: str, tmp_path: Path) -> None:
    make = partial(VocabularyCharacterIds, ["", "The", "cat", "sat", "Hello"], {"<unk>": 1})
    word_ids = np.array([[1, 2, 3], [4, 0, 0]], dtype=dtype)
    check_layer(LayerCase(make, word_ids, (0, 1), (2, TIME, 50), "int32", MASK), tmp_path)


def test_vocabulary_character_ids_of_passages(tmp_path: Path) -> None:
    make = partial(VocabularyCharacterIds, ["", "The", "cat", "sat", "Hello"])
    passages = np.array([[[1, 2, 3], [4, 0, 0]], [[0, 0, 0], [0, 0, 0]]], dtype="int32")
    mask = np.array([MASK, np.zeros_like(MASK)])
    check_layer(LayerCase(make, passages, (0, 1, 2), (2, 2, TIME, 50), "int32", mask), tmp_path)


RAW = tf.constant(["The cat\tsat", " Hello "])


@pytest.mark.parametrize("length", [None, 2])
def test_whitespace_tokenizer(length: int | None) -> None:
    """As far as the harness goes with strings and with a number of timesteps that only the values tell."""
    make = partial(WhitespaceTokenizer, length)
    mask = MASK[:, :length]
    case = LayerCase(make, RAW, (0,), mask.shape, "string", mask)
    check_config(case)
    check_mask_and_weights(case)


@pytest.mark.parametrize("do_layer_norm", [False, True])
def test_scalar_mix(do_layer_norm: bool, tmp_path: Path) -> None:
    make = partial(ScalarMix, do_layer_norm, [0.5, -1.0, 2.0, 0.0])
    check_layer(LayerCase(make, random_layers(2, 3, 4, 5), (0, 1), (2, 3, 5), trainable=2), tmp_path)


STRINGS = tokens(SENTENCES)
PASSAGES = tf.stack([STRINGS, tf.fill(STRINGS.shape, "")])
TUNED = 27  # parameters of the small model's biLM
ELMO_MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: arguments of ElmoEmbedding, expectations
    "elmo": ({}, {"shape": (2, TIME, DIM), "mask": MASK, "trainable": 2}),
    "elmo, fixed mix": (
        {"scalar_mix_parameters": [0.0, 1.0, 0.0], "max_sequence_length": 2},
        {"shape": (2, 2, DIM), "mask": CUT_TO_2, "non_trainable": 2, "inputs": ids(SENTENCES)},
    ),
    "elmo, layer norm": (
        {"do_layer_norm": True},
        {"shape": (2, TIME, DIM), "mask": MASK, "trainable": 2, "inputs": ids(SENTENCES, "int64")},
    ),
    "elmo, layer norm and boundaries": (
        {"do_layer_norm": True, "keep_sentence_boundaries": True},
        {"shape": (2, TIME + 2, DIM), "mask": WITH_BOUNDARIES, "trainable": 2},
    ),
    "top, boundaries": (
        {"output_mode": "top", "keep_sentence_boundaries": True},
        {"shape": (2, TIME + 2, DIM), "mask": WITH_BOUNDARIES},
    ),
    "average, cut, bfloat16": (
        {"output_mode": "average", "max_sequence_length": 2, "dtype": "mixed_bfloat16"},
        {"shape": (2, 2, DIM), "mask": CUT_TO_2, "dtype": "bfloat16"},
    ),
    "all": ({"output_mode": "all"}, {"shape": (2, TIME, LAYERS, DIM), "mask": MASK, "inputs": ids(SENTENCES)}),
    "elmo, warm, regularized": (
        {"state": "warm", "mix_regularizer": "l2", "seed": 3},
        {"shape": (2, TIME, DIM), "mask": MASK, "trainable": 2},
    ),
    "elmo, self-contained": ({"embed_weights": True}, {"shape": (2, TIME, DIM), "mask": MASK, "trainable": 2}),
    "elmo, fine-tuned": ({"requires_grad": True}, {"shape": (2, TIME, DIM), "mask": MASK, "trainable": 2 + TUNED}),
    "top, fine-tuned, warm, boundaries, bfloat16": (
        {
            "output_mode": "top",
            "requires_grad": True,
            "state": "warm",
            "embed_weights": True,
            "keep_sentence_boundaries": True,
            "dtype": "mixed_bfloat16",
        },
        {"shape": (2, TIME + 2, DIM), "mask": WITH_BOUNDARIES, "dtype": "bfloat16", "trainable": TUNED},
    ),
    "elmo, pooled": ({"pooling": "mean"}, {"shape": (2, DIM), "trainable": 2}),
    "all, pooled, boundaries": (
        {"output_mode": "all", "pooling": "mean", "keep_sentence_boundaries": True},
        {"shape": (2, LAYERS, DIM), "inputs": ids(SENTENCES)},
    ),
    "elmo, passages": (
        {},
        {
            "shape": (2, 2, TIME, DIM),
            "mask": np.array([MASK, MASK & False]),
            "trainable": 2,
            "inputs": PASSAGES,
            "free_axes": (0, 1, 2),
        },
    ),
    "elmo, passages, cut, layer norm, boundaries": (
        {"do_layer_norm": True, "keep_sentence_boundaries": True, "max_sequence_length": 3},
        {
            "shape": (2, 2, TIME + 2, DIM),
            "mask": np.array([WITH_BOUNDARIES, [[True, True, False, False, False]] * 2]),
            "trainable": 2,
            "inputs": batch_to_ids([*SENTENCES, [], []]).reshape(2, 2, TIME, 50),
            "free_axes": (0, 1, 2),
        },
    ),
    "elmo, passages, pooled, layer norm": (
        {"do_layer_norm": True, "pooling": "mean"},
        {
            "shape": (2, 2, DIM),
            "mask": np.array([[True, True], [False, False]]),
            "trainable": 2,
            "inputs": PASSAGES,
            "free_axes": (0, 1),
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ELMO_MODES)
def test_elmo_embedding(mode: str, small: ElmoConfig, tmp_path: Path) -> None:
    arguments, expected = ELMO_MODES[mode]
    # Without dropout a step is deterministic, and there are no weights but the mix.
    make = partial(ElmoEmbedding, small, dropout=0.0, **arguments)
    check_layer(LayerCase(make, **{"inputs": STRINGS, "free_axes": (0, 1), **expected}), tmp_path)
