"""`state="warm"` is AllenNLP's own state after the warm-up text, the same for every sentence and every run."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bridge
from bridge.encoder.arguments import Engine
from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.warm_up import WARM_UP_SHA256
from bridge.resources.config import ElmoConfig
from bridge.text.characters import batch_to_ids

TEXT = Path(bridge.__file__).with_name("encoder") / "warm_up.txt"
BATCH = [["The", "cat", "sat"], [], ["é"] * 6, ["Hello"]]

words = st.sampled_from(["The", "cat", "é", "<S>"]) | st.text("ab", min_size=1, max_size=4)
batches = st.lists(st.lists(words, max_size=5), min_size=1, max_size=4)


def warm_up_sentences() -> list[list[str]]:
    return [line.split() for line in TEXT.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def warm(small: ElmoConfig, engine: Engine) -> ElmoEncoder:
    return ElmoEncoder(small, state="warm", engine=engine, keep_sentence_boundaries=True)


@pytest.fixture(scope="module")
def allennlps(small: ElmoConfig) -> ElmoEncoder:
    return ElmoEncoder(small, state="warm", engine="allennlp", keep_sentence_boundaries=True)


@pytest.fixture(scope="module")
def warm_states(small: ElmoConfig) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """AllenNLP's biLM, and the state in which the warm-up text leaves it, one sentence after the other."""
    elmo = import_elmo().Elmo(small.options_file, small.weight_file, 1)
    bilm = elmo._elmo_lstm
    bilm._elmo_lstm.reset_states()
    for sentence in warm_up_sentences():
        elmo(torch.from_numpy(batch_to_ids([sentence])).long())
    return bilm, tuple(state.detach().clone() for state in bilm._elmo_lstm._states)


def assert_equal(received: Any, wanted: Any) -> None:
    np.testing.assert_allclose(received, wanted, rtol=0, atol=1e-5)


def test_the_text_is_whole() -> None:
    """Another text would give other vectors: its hash goes wherever vectors go."""
    assert hashlib.sha256(TEXT.read_bytes()).hexdigest() == WARM_UP_SHA256
    assert len(warm_up_sentences()) >= 5
    assert all(len(sentence) > 3 for sentence in warm_up_sentences())


@settings(max_examples=10)
@given(batches)
def test_it_is_allennlps_own(warm: ElmoEncoder, warm_states: Any, batch: list[list[str]]) -> None:
    bilm, states = warm_states
    bilm._elmo_lstm._states = tuple(state.repeat(1, len(batch), 1) for state in states)
    ids = batch_to_ids(batch)
    with torch.no_grad():
        wanted = bilm(torch.from_numpy(ids).long())
    received = warm(ids)
    assert_equal(received.activations, torch.stack(wanted["activations"], dim=2))
    np.testing.assert_array_equal(received.mask, wanted["mask"])


def test_it_is_the_papers(warm: ElmoEncoder, small: ElmoConfig) -> None:
    options, weights = reference.read_checkpoint(small.options_file, small.weight_file)
    states: reference.States = {}
    for sentence in warm_up_sentences():
        _, _, states = reference.bilm(options, weights, reference.character_ids([sentence]), initial_states=states)
    everywhere = {
        (row, direction, layer): state for row in range(len(BATCH)) for (_, direction, layer), state in states.items()
    }
    wanted, mask, _ = reference.bilm(options, weights, reference.character_ids(BATCH), initial_states=everywhere)
    received = warm(batch_to_ids(BATCH))
    assert_equal(received.activations, wanted)
    np.testing.assert_array_equal(received.mask, mask)


def test_it_is_not_the_zero_state(warm: ElmoEncoder, encoder: ElmoEncoder) -> None:
    (received,), (cold,) = warm.embed([["The", "cat"]]), encoder.embed([["The", "cat"]])
    assert_equal(received[1:-1, 0], cold[:, 0])  # the token layer has no state
    assert (np.abs(received[1:-1, 1:] - cold[:, 1:]).max(axis=(0, 2)) > 1e-3).all()


def test_company_order_padding_and_passes_change_nothing(warm: ElmoEncoder, small: ElmoConfig, engine: Engine) -> None:
    alone = [warm.embed([sentence])[0] for sentence in BATCH]
    in_passes = ElmoEncoder(small, state="warm", engine=engine, keep_sentence_boundaries=True, max_tokens_per_pass=1)
    for vectors in (warm.embed(BATCH), warm.embed(BATCH[::-1])[::-1], in_passes.embed(BATCH), warm.embed(BATCH)):
        for received, wanted in zip(vectors, alone, strict=True):
            assert_equal(received, wanted)
    padded = warm(batch_to_ids(BATCH, max_sequence_length=9))
    for row, wanted in enumerate(alone):
        assert_equal(padded.activations[row, : len(wanted)], wanted)
        assert not padded.activations[row, len(wanted) :].any()


def test_reset_states_and_empty_batches_leave_it_warm(warm: ElmoEncoder) -> None:
    before = warm.embed(BATCH)
    warm.reset_states()
    warm(np.zeros((0, 3, 50), "int32"))
    warm(np.zeros((2, 0, 50), "int32"))
    for received, wanted in zip(warm.embed(BATCH), before, strict=True):
        np.testing.assert_array_equal(received, wanted)


def surrounded_by(mode: str) -> Any:
    return torch.inference_mode() if mode == "inference_mode" else torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("mode", ["inference_mode", "autocast"])
def test_the_callers_modes_stay_out(mode: str, warm: ElmoEncoder, small: ElmoConfig, engine: Engine) -> None:
    encoder = ElmoEncoder(small, state="warm", engine=engine, keep_sentence_boundaries=True)
    ids = batch_to_ids(BATCH)
    with surrounded_by(mode):
        encoder(ids)
    output = encoder(ids)
    np.testing.assert_allclose(output.activations, warm(ids).activations, rtol=0, atol=1e-6)
    assert not output.activations.is_inference()


@pytest.mark.parametrize("mode", ["inference_mode", "autocast"])
def test_the_callers_modes_stay_out_of_released_parameters(
    mode: str, allennlps: ElmoEncoder, small: ElmoConfig
) -> None:
    encoder = ElmoEncoder(small, state="warm", engine="allennlp", keep_sentence_boundaries=True)
    ids = batch_to_ids(BATCH)
    parameters = {name: value.detach().clone() for name, value in encoder._bilm.named_parameters()}
    with surrounded_by(mode):
        encoder.release_parameters()
    output = encoder.call_with(parameters, ids)
    np.testing.assert_array_equal(output.activations.detach(), allennlps(ids).activations)
    assert not output.activations.is_inference()


@pytest.mark.parametrize("warm_first", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_module_may_change_its_precision(
    dtype: torch.dtype, warm_first: bool, allennlps: ElmoEncoder, small: ElmoConfig
) -> None:
    encoder = ElmoEncoder(small, state="warm", engine="allennlp", keep_sentence_boundaries=True)
    ids = batch_to_ids(BATCH)
    if warm_first:
        encoder(ids)
    encoder.module.to(dtype)
    np.testing.assert_allclose(encoder(ids).activations, allennlps(ids).activations, atol=0.05)


def test_parameters_of_ones_own_start_from_the_same_state(allennlps: ElmoEncoder, small: ElmoConfig) -> None:
    """Fine-tuning does not move the start: that is the state of the weights as they were."""
    encoder = ElmoEncoder(small, state="warm", engine="allennlp", keep_sentence_boundaries=True)
    parameters = {name: torch.from_numpy(value.copy()) for name, value in encoder.release_parameters().items()}
    ids = batch_to_ids(BATCH)
    assert_equal(encoder.call_with(parameters, ids).activations, allennlps(ids).activations)
    doubled = {name: value.double() for name, value in parameters.items()}
    assert encoder.call_with(doubled, ids).activations.dtype == torch.float64
    assert_equal(encoder.call_with(doubled, ids).activations, allennlps(ids).activations)


PROGRAM = """
import sys
import numpy
from bridge import ElmoConfig, ElmoEncoder, batch_to_ids
encoder = ElmoEncoder(
    ElmoConfig({options!r}, {weights!r}), state="warm", engine={engine!r}, keep_sentence_boundaries=True
)
encoder(batch_to_ids([["something", "else", "before"]]))
numpy.save("vectors.npy", encoder(batch_to_ids({batch!r})).activations.numpy())
"""


@pytest.mark.slow
def test_the_same_in_another_process(
    warm: ElmoEncoder, small: ElmoConfig, engine: Engine, run_python: Callable[[str], str], tmp_path: Path
) -> None:
    run_python(PROGRAM.format(options=small.options_file, weights=small.weight_file, engine=engine, batch=BATCH))
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), warm(batch_to_ids(BATCH)).activations, atol=1e-6)


def test_the_state_is_that_of_the_weights_in_use(small: ElmoConfig) -> None:
    """AllenNLP's `module` is live: changed weights read the warm-up text again."""
    ids = batch_to_ids(BATCH)
    encoder = ElmoEncoder(small, state="warm", engine="allennlp")
    before = encoder(ids).activations
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter.mul_(0.5)
    changed = ElmoEncoder(small, state="warm", engine="allennlp")
    with torch.no_grad():
        for parameter in changed.module.parameters():
            parameter.mul_(0.5)
    assert_equal(encoder(ids).activations, changed(ids).activations)
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter.mul_(2.0)
    assert_equal(encoder(ids).activations, before)
