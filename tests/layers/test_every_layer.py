"""Every layer goes through the harness, ElmoEmbedding in each of its modes."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layers.harness import MASK, SENTENCES, LayerCase, check_layer, ids, tokens

from bridge import CharacterIds, ElmoConfig, ElmoEmbedding, ScalarMix

TIME, DIM, LAYERS = 3, 12, 3  # of SENTENCES and of the small model
WITH_BOUNDARIES = np.array([[True] * 5, [True] * 3 + [False] * 2])
CUT_TO_2 = MASK[:, :2]


def random_layers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_character_ids(tmp_path: Path) -> None:
    make = partial(CharacterIds, tokens_to_add={"<unk>": 1})
    check_layer(LayerCase(make, tokens(SENTENCES), (0, 1), (2, TIME, 50), "int32", MASK), tmp_path)


@pytest.mark.parametrize("do_layer_norm", [False, True])
def test_scalar_mix(do_layer_norm: bool, tmp_path: Path) -> None:
    make = partial(ScalarMix, do_layer_norm, [0.5, -1.0, 2.0, 0.0])
    check_layer(LayerCase(make, random_layers(2, 3, 4, 5), (0, 1), (2, 3, 5), trainable=2), tmp_path)


STRINGS = tokens(SENTENCES)
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
}


@pytest.mark.parametrize("mode", ELMO_MODES)
def test_elmo_embedding(mode: str, small: ElmoConfig, tmp_path: Path) -> None:
    arguments, expected = ELMO_MODES[mode]
    # Without dropout a step is deterministic, and there are no weights but the mix.
    make = partial(ElmoEmbedding, small, dropout=0.0, **arguments)
    check_layer(LayerCase(make, **{"inputs": STRINGS, "free_axes": (0, 1), **expected}), tmp_path)
