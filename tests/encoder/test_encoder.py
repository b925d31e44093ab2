"""`ElmoEncoder`: what it promises beside its values, which tests/parity checks."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.encoder.arguments import Engine
from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.encoder import MAX_ROWS_PER_PASS, BiLmOutput, ElmoEncoder
from bridge.encoder.fused import FusedBiLm
from bridge.errors import InputTypeError, InputValueError
from bridge.resources.config import ElmoConfig
from bridge.text.characters import batch_to_ids

Sentences = list[list[str]]

SENTENCES = [["The", "cat", "sat", "."], [], ["Hello"], ["<S>", "", "é" * 30]]
IDS = batch_to_ids(SENTENCES)
LENGTHS = [4, 0, 1, 3]
MASK = np.arange(4) < np.array(LENGTHS)[:, None]

tokens = st.sampled_from(["the", "The", "cat", "", "<S>", "\ud800", "a" * 60]) | st.text(max_size=8)
batches = st.lists(st.lists(tokens, max_size=6), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def encoders(small: ElmoConfig, engine: Engine) -> dict[int, ElmoEncoder]:
    """By memory budget."""
    return {budget: ElmoEncoder(small, engine=engine, max_tokens_per_pass=budget) for budget in (1, 9, 20, 4096)}


def assert_close(received: Any, expected: Any) -> None:
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5)


def assert_same(received: BiLmOutput, expected: BiLmOutput) -> None:
    """To the last bits, which may hang on the way that the numbers were computed."""
    np.testing.assert_allclose(received.activations, expected.activations, rtol=0, atol=1e-6)
    assert torch.equal(received.mask, expected.mask)


# State


@given(sentences=batches, extra=st.integers(0, 3), budget=st.sampled_from([1, 9, 20, 4096]), shuffled=st.randoms())
def test_zero_state_does_not_depend_on_company(
    encoders: dict[int, ElmoEncoder], sentences: Sentences, extra: int, budget: int, shuffled: Any
) -> None:
    alone = [encoders[4096](batch_to_ids([sentence])).activations[0] for sentence in sentences]
    order = list(range(len(sentences)))
    shuffled.shuffle(order)
    ids = batch_to_ids([sentences[row] for row in order], max_sequence_length=max(map(len, sentences)) + extra)

    activations, mask = encoders[budget](ids)

    for row, index in enumerate(order):
        length = len(sentences[index])
        assert_close(activations[row, :length], alone[index])
        assert not activations[row, length:].any()
        assert mask[row].tolist() == [True] * length + [False] * (ids.shape[1] - length)


OF_MANY_LENGTHS = [["a"] * length for length in [3, 9, 0, 1, 4, 4, 2]]


@pytest.mark.parametrize("budget", [1, 9, 20, 4096])
def test_a_pass_of_allennlps_keeps_to_the_memory_budget(small: ElmoConfig, budget: int) -> None:
    encoder = ElmoEncoder(small, engine="allennlp", max_tokens_per_pass=budget)
    passes: list[torch.Size] = []
    encoder.module._elmo_lstm.register_forward_pre_hook(lambda module, inputs: passes.append(inputs[0].shape))
    encoder(batch_to_ids(OF_MANY_LENGTHS))
    assert sum(rows for rows, _, _ in passes) == 7
    assert all(rows == 1 or rows * (timesteps + 2) <= budget for rows, timesteps, _ in passes)
    assert len(passes) == {1: 7, 9: 6, 20: 3, 4096: 1}[budget]


@pytest.fixture
def fused_passes(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The rows of each pass of a fused biLM."""
    passes: list[np.ndarray] = []
    encode = FusedBiLm.encode

    def watched(bilm: FusedBiLm, ids: Any, lengths: Any, activations: Any, rows: np.ndarray, *others: Any) -> None:
        passes.append(rows)
        encode(bilm, ids, lengths, activations, rows, *others)

    monkeypatch.setattr(FusedBiLm, "encode", watched)
    return passes


@pytest.mark.parametrize("state", ["zero", "carry"])
@pytest.mark.parametrize("budget", [1, 9, 20, 4096])
def test_a_fused_pass_keeps_to_the_memory_budget(
    small: ElmoConfig, fused_passes: list[np.ndarray], budget: int, state: Any
) -> None:
    encoder = ElmoEncoder(small, engine="fused", state=state, max_tokens_per_pass=budget)
    encoder(batch_to_ids(OF_MANY_LENGTHS))
    assert sorted(np.concatenate(fused_passes)) == list(range(7))
    # Padding is not read, but it takes memory in the result.
    timesteps = [max(len(OF_MANY_LENGTHS[row]) + 2 for row in rows) for rows in fused_passes]
    assert all(len(rows) == 1 or len(rows) * n <= budget for rows, n in zip(fused_passes, timesteps, strict=True))
    assert len(fused_passes) == {1: 7, 9: 6, 20: 3, 4096: 1}[budget]


@pytest.mark.parametrize("state", ["zero", "carry"])
def test_a_fused_pass_has_not_too_many_rows(small: ElmoConfig, fused_passes: list[np.ndarray], state: Any) -> None:
    encoder = ElmoEncoder(small, engine="fused", state=state)
    activations, _ = encoder(batch_to_ids([["a"]] * (MAX_ROWS_PER_PASS + 1)))
    assert [len(rows) for rows in fused_passes] == [MAX_ROWS_PER_PASS, 1]
    assert_close(activations, activations[:1].expand_as(activations))


def test_repeated_calls_are_identical(encoder: ElmoEncoder) -> None:
    first, again = encoder(IDS), encoder(IDS)
    assert torch.equal(again.activations, first.activations)
    assert torch.equal(again.mask, first.mask)


def carry_on(encoder: ElmoEncoder, calls: list[Sentences]) -> list[np.ndarray]:
    return [encoder(batch_to_ids(sentences)).activations.numpy() for sentences in calls]


@pytest.mark.slow
@settings(max_examples=15)
@given(calls=st.lists(batches, min_size=2, max_size=4), budget=st.sampled_from([1, 4096]))
def test_carry_is_allennlps_own_state(small: ElmoConfig, engine: Engine, calls: list[Sentences], budget: int) -> None:
    encoder = ElmoEncoder(
        small, state="carry", engine=engine, keep_sentence_boundaries=True, max_tokens_per_pass=budget
    )
    bilm = import_elmo()._ElmoBiLm(small.options_file, small.weight_file)
    for sentences, received in zip(calls, carry_on(encoder, calls), strict=True):
        with torch.no_grad():
            layers = bilm(torch.from_numpy(batch_to_ids(sentences)).long())["activations"]
        assert_close(received, torch.stack(layers, dim=2))


def test_reset_states_forgets_what_was_carried(small: ElmoConfig, engine: Engine) -> None:
    encoder = ElmoEncoder(small, state="carry", engine=engine)
    first, second = carry_on(encoder, [[["a", "b"]], [["a", "b"]]])
    assert np.abs(second - first).max() > 1e-3
    encoder.reset_states()
    assert_close(carry_on(encoder, [[["a", "b"]]])[0], first)


def test_an_empty_batch_leaves_the_carried_state_alone(small: ElmoConfig, engine: Engine) -> None:
    plain, interrupted = (ElmoEncoder(small, state="carry", engine=engine) for _ in range(2))
    assert_close(carry_on(interrupted, [[["a"]], [], [["b"]]])[2], carry_on(plain, [[["a"]], [["b"]]])[1])


# Masks and sentence boundaries


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "float32"])
@pytest.mark.parametrize("state", ["zero", "carry"])
def test_a_mask_that_cuts_equals_a_shorter_input(small: ElmoConfig, engine: Engine, dtype: str, state: Any) -> None:
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=dtype)
    cut = batch_to_ids([["The", "cat"], [], [], ["<S>"]], max_sequence_length=4)
    masked, shorter = (ElmoEncoder(small, state=state, engine=engine) for _ in range(2))
    for _ in range(2):  # the second time from the state in which the masked rows ended
        assert_same(masked(IDS, mask), shorter(cut))


def test_the_mask_of_the_ids_changes_nothing(encoder: ElmoEncoder) -> None:
    assert_same(encoder(IDS, MASK), encoder(IDS))
    assert_same(encoder(IDS, torch.from_numpy(MASK)), encoder(IDS))
    assert encoder(IDS).mask.tolist() == MASK.tolist()


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (~MASK, InputValueError, "`mask` must not claim a token"),
        (MASK[:, ::-1], InputValueError, "`mask` must not claim a token"),
        (MASK & [0, 1, 1, 1], InputValueError, "`mask` may only cut the end"),
        (MASK[:3], InputValueError, r"`mask` must have shape .* \(4, 4\). Received: shape \(3, 4\)"),
        (MASK.tolist(), InputTypeError, r"`mask` must be a NumPy array or a tensor.*list.*np.array\(mask"),
        (MASK.astype(str), InputTypeError, "`mask` must be bool or 0/1"),
    ],
)
def test_refused_masks(encoder: ElmoEncoder, mask: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        encoder(IDS, mask)


def test_keep_sentence_boundaries(small: ElmoConfig, engine: Engine, encoder: ElmoEncoder) -> None:
    inner = encoder(IDS)
    activations, mask = ElmoEncoder(small, engine=engine, keep_sentence_boundaries=True)(IDS)
    assert activations.shape == (4, 6, 3, 12)
    assert mask.sum(dim=1).tolist() == [length + 2 for length in LENGTHS]
    for row, length in enumerate(LENGTHS):
        assert_close(activations[row, 1 : length + 1], inner.activations[row, :length])
        assert (activations[row, : length + 2] != 0).any(dim=(1, 2)).all()
        assert not activations[row, length + 2 :].any()


@pytest.mark.parametrize("boundaries", [False, True])
@pytest.mark.parametrize("shape", [(0, 0, 50), (0, 3, 50), (2, 0, 50), (2, 3, 50)])
def test_nothing_in_gives_nothing_out(
    small: ElmoConfig, engine: Engine, shape: tuple[int, int, int], boundaries: bool
) -> None:
    encoder = ElmoEncoder(small, engine=engine, keep_sentence_boundaries=boundaries)
    activations, mask = encoder(np.zeros(shape, dtype=np.int32))
    timesteps = shape[1] + 2 * boundaries
    assert activations.shape == (shape[0], timesteps, encoder.num_layers, encoder.output_dim)
    assert mask.tolist() == [[boundaries] * 2 * boundaries + [False] * shape[1]] * shape[0]
    assert (activations.dtype, mask.dtype) == (torch.float32, torch.bool)


# embed


@pytest.mark.parametrize("boundaries", [False, True])
@pytest.mark.parametrize("budget", [1, 12, 4096])
def test_embed_equals_calling(small: ElmoConfig, engine: Engine, boundaries: bool, budget: int) -> None:
    encoder = ElmoEncoder(small, engine=engine, keep_sentence_boundaries=boundaries, max_tokens_per_pass=budget)
    activations, mask = encoder(IDS)
    for layers, expected in [
        ("all", activations),
        ("top", activations[:, :, 2]),
        ("average", activations.mean(dim=2)),
    ]:
        vectors = encoder.embed(SENTENCES, layers=layers)  # type: ignore[arg-type]
        assert [v.dtype for v in vectors] == [np.float32] * 4
        for row, length in enumerate(mask.sum(dim=1)):
            assert vectors[row].shape == expected[row, :length].shape
            assert_close(vectors[row], expected[row, :length])


def test_embed_carries_the_state_of_each_place(small: ElmoConfig, engine: Engine) -> None:
    at_once = ElmoEncoder(small, state="carry", engine=engine)
    in_passes = ElmoEncoder(small, state="carry", engine=engine, max_tokens_per_pass=4)
    for sentences in (SENTENCES, SENTENCES[::-1]):
        activations, mask = at_once(batch_to_ids(sentences))
        for row, vectors in enumerate(in_passes.embed(sentences)):
            assert_close(vectors, activations[row][mask[row]])


def test_embed_takes_what_batch_to_ids_takes(encoder: ElmoEncoder) -> None:
    assert encoder.embed([]) == []
    assert [vectors.shape for vectors in encoder.embed([[]], layers="top")] == [(0, 12)]
    (vectors,) = encoder.embed(iter(sentence) for sentence in [["a", "b"]])  # type: ignore[arg-type]
    assert_close(vectors, encoder.embed([["a", "b"]])[0])


@pytest.mark.parametrize(
    ("sentences", "layers", "error", "words"),
    [
        (["a b"], "all", InputTypeError, r"`sentences` must be a list of sentences.*\['a b'\]"),
        ("a b", "all", InputTypeError, "`sentences` must be a list of sentences.*'a b'"),
        ([1, 2], "all", InputTypeError, r"`sentences` must be a list of sentences.*\[1, 2\]"),
        ([["a"], [2]], "all", InputTypeError, "`sentences` must hold string tokens.*token 2 of type int"),
        ([["a"]], "mean", InputValueError, '`layers` must be "all" or "top" or "average". Received: \'mean\''),
    ],
)
def test_embed_errors(encoder: ElmoEncoder, sentences: Any, layers: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        encoder.embed(sentences, layers=layers)
