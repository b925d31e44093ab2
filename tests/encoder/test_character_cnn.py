"""`CharacterCnn` gives the reference's token vectors, for any model and any ids, in any company."""

from typing import Any

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import options_dict

from bridge.encoder import character_cnn
from bridge.encoder.character_cnn import CharacterCnn
from bridge.encoder.shared_weights import PreparedWeights
from bridge.pretrain.weights import initial_weights
from bridge.resources.options import ElmoOptions
from bridge.text.characters import batch_to_ids

CPU = torch.device("cpu")

filters = st.lists(st.tuples(st.integers(1, 50) | st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4)


@st.composite
def all_options(draw: st.DrawFn) -> dict[str, Any]:
    return options_dict(
        dim=2,
        projection_dim=draw(st.integers(1, 6)),
        activation=draw(st.sampled_from(["relu", "tanh"])),
        n_highway=draw(st.integers(0, 2)),
        filters=tuple(draw(filters)),
        char_dim=draw(st.integers(1, 5)),
        n_characters=draw(st.sampled_from([261, 262])),
    )


# How a token may look: as `batch_to_ids` makes it, and otherwise.
lengths = st.integers(0, 50)
tokens = st.one_of(
    st.tuples(st.just("word"), st.integers(0, 48)),
    st.tuples(st.just("any ids"), lengths),
    st.tuples(st.just("zeros inside"), lengths),
    st.tuples(st.just("zeros behind"), st.integers(1, 50)),
    st.tuples(st.just("padding before characters"), lengths),
    st.tuples(st.just("padding only"), st.just(0)),
)


def make_token(kind: str, length: int, generator: np.random.Generator) -> list[int]:
    if kind == "word":
        return reference.word_characters(generator.integers(1, 257, length).tolist())
    ids = np.full(50, 0 if kind == "zeros behind" else 261)
    ids[:length] = generator.integers(1, 262, length)
    if kind == "zeros inside":
        ids[generator.integers(0, 50, 5)] = 0
    if kind == "padding before characters":
        ids = ids[::-1]
    return ids.tolist()


def make_cnn(options: dict[str, Any], seed: int) -> tuple[CharacterCnn, dict[str, Any]]:
    """And its weights; no bias is zero, which would hide it."""
    validated = ElmoOptions.model_validate(options)
    weights = initial_weights(validated, seed)
    generator = np.random.default_rng(seed)
    for name, values in weights.items():
        if values.ndim == 1:
            weights[name] = (values + generator.standard_normal(values.shape)).astype(np.float32)
    cnn = CharacterCnn(validated.char_cnn, PreparedWeights(validated, weights), CPU)
    return cnn, {name: values.astype(np.float64) for name, values in weights.items()}


@settings(max_examples=60)
@given(
    options=all_options(),
    kinds=st.lists(tokens, min_size=1, max_size=7),
    block=st.sampled_from([1, 2, 3, 64]),
    seed=st.integers(0, 99),
)
def test_the_vectors_are_the_references(
    options: dict[str, Any], kinds: list[tuple[str, int]], block: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    ids = np.array([make_token(*kind, generator) for kind in kinds], dtype=np.uint16)
    before = ids.copy()
    cnn, weights = make_cnn(options, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(character_cnn, "TOKENS_PER_BLOCK", block)
        vectors = cnn(ids)
    assert vectors.dtype == torch.float32
    expected = [reference.token_vector(options, weights, token.astype(np.int64)) for token in ids]
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ids, before)


@pytest.mark.parametrize("width", [1, 2, 7, 25, 49, 50])
def test_every_length_of_a_word_in_one_call(width: int) -> None:
    """From no character to all of them: where the windows end differs for each length."""
    options = options_dict(filters=((width, 3), (1, 1)), activation="tanh")
    cnn, weights = make_cnn(options, width)
    generator = np.random.default_rng(width)
    ids = np.array([make_token("any ids", length, generator) for length in range(51)] * 2, dtype=np.uint16)
    vectors = cnn(generator.permutation(ids))  # the company differs
    assert vectors.shape == (102, 6)
    vectors = cnn(ids)
    expected = [reference.token_vector(options, weights, token.astype(np.int64)) for token in ids[:51]]
    np.testing.assert_allclose(vectors, np.concatenate([expected, expected]), rtol=0, atol=1e-5)


def test_a_filter_that_lives_on_what_is_behind_the_word() -> None:
    """One window in the padding must be looked at, and none behind character 50."""
    options = options_dict(filters=((3, 2),), n_highway=0, projection_dim=2, char_dim=1)
    validated = ElmoOptions.model_validate(options)
    weights = initial_weights(validated, 0)
    weights["char_embed"] = np.full((261, 1), -1, dtype=np.float32)
    weights["char_embed"][260] = 1  # the padding, id 261
    weights["CNN/W_cnn_0"] = np.stack([np.ones((1, 3, 1)), -np.ones((1, 3, 1))], axis=-1).reshape(1, 3, 1, 2)
    weights["CNN/W_cnn_0"] = weights["CNN/W_cnn_0"].astype(np.float32)
    weights["CNN_proj/W_proj"] = np.eye(2, dtype=np.float32)
    cnn = CharacterCnn(validated.char_cnn, PreparedWeights(validated, weights), CPU)
    inside = [[1] * length + [261] * (50 - length) for length in (1, 46, 47, 48, 49, 50)]
    # Three of padding in a row are 3, two are 1, one is -1 and none is -3; relu makes 0 of what is negative.
    assert cnn(np.array(inside))[:, 0].tolist() == [3, 3, 3, 1, 0, 0]
    assert cnn(np.array(inside))[:, 1].tolist() == [0, 3, 3, 3, 3, 3]


def test_no_tokens() -> None:
    cnn, _ = make_cnn(options_dict(), 0)
    assert cnn(np.zeros((0, 50), dtype=np.uint16)).shape == (0, 6)


def test_company_and_order_change_nothing() -> None:
    cnn, _ = make_cnn(options_dict(filters=((1, 4), (3, 5), (7, 6))), 0)
    ids = batch_to_ids([[f"{i}" * (i % 30) for i in range(200)]])[0]
    together = cnn(ids)
    order = np.random.default_rng(0).permutation(len(ids))
    torch.testing.assert_close(cnn(ids[order]), together[order], rtol=0, atol=1e-6)
    for token in range(0, 200, 23):
        torch.testing.assert_close(cnn(ids[token : token + 1]), together[token : token + 1], rtol=0, atol=1e-6)
    assert torch.equal(cnn(ids), together)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_makers_defaults_change_nothing(dtype: torch.dtype) -> None:
    ids = batch_to_ids([["The", "cat", "é" * 30]])[0]
    expected = make_cnn(options_dict(), 0)[0](ids)
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            received = make_cnn(options_dict(), 0)[0](ids)
    finally:
        torch.set_default_dtype(torch.float32)
    assert received.dtype == torch.float32
    assert torch.equal(received, expected)
