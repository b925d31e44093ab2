"""The fused biLM agrees with AllenNLP's and with the NumPy reference to 1e-5, whatever the model and the batch are."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import options_dict

from bridge.encoder import fused_lstm
from bridge.encoder.arguments import State
from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.fused import FusedBiLm
from bridge.encoder.token_vectors import BYTES_PER_ENTRY
from bridge.encoder.warm_up import warm_up_batches
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.options import ElmoOptions
from bridge.text.characters import batch_to_ids


class Model(NamedTuple):
    """A random model; Hypothesis shows only what it was made from."""

    options: dict[str, Any]
    seed: int

    def write(self, folder: str | Path) -> Checkpoint:
        validated = ElmoOptions.model_validate(self.options)
        weights = initial_weights(validated, self.seed)
        generator = np.random.default_rng(self.seed)
        for name, values in weights.items():
            if values.ndim == 1:  # a bias: all alike, no test would tell the gates apart
                weights[name] = (values + generator.standard_normal(values.shape)).astype(np.float32)
        return Checkpoint.open(write_checkpoint(Path(folder), validated, weights))


class Setting(NamedTuple):
    """What changes the way the numbers are computed, and not the numbers."""

    cached_tokens: int
    tokens_per_chunk: int
    tokens_per_first_chunk: int
    threads: int

    @contextmanager
    def used(self) -> Iterator[None]:
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fused_lstm, "TOKENS_PER_CHUNK", self.tokens_per_chunk)
                patch.setattr(fused_lstm, "TOKENS_PER_FIRST_CHUNK", self.tokens_per_first_chunk)
                yield
        finally:
            torch.set_num_threads(threads)

    def token_cache_bytes(self, model: Model) -> int:
        return self.cached_tokens * (4 * model.options["lstm"]["projection_dim"] + BYTES_PER_ENTRY)


clips = st.sampled_from([None, 0.0, 0.05, 0.3, 3.0])
filters = st.lists(st.tuples(st.integers(1, 50) | st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4)


@st.composite
def models(draw: st.DrawFn) -> Model:
    options = options_dict(
        dim=draw(st.integers(1, 12)),
        projection_dim=draw(st.integers(1, 12)),
        n_layers=draw(st.integers(1, 4)),
        clip=draw(clips),
        activation=draw(st.sampled_from(["relu", "tanh"])),
        n_highway=draw(st.integers(0, 2)),
        filters=tuple(draw(filters)),
        char_dim=draw(st.integers(1, 5)),
        n_characters=draw(st.sampled_from([261, 262])),
    )
    options["lstm"]["proj_clip"] = draw(clips)
    return Model(options, draw(st.integers(0, 999)))


limits = st.sampled_from([1, 3, 1000])
caches = st.sampled_from([0, 1, 2, 1000])
many_settings = st.builds(Setting, caches, limits, limits, st.sampled_from([1, 2]))

words = st.sampled_from(["The", "cat", "", "a", "é", "<S>", "</S>", "x" * 48, "é" * 30]) | st.text(max_size=6)
word_ids = words.map(lambda word: batch_to_ids([[word]])[0, 0])
# Never of `batch_to_ids`, but some of a user's own ids may be so: no begin, gaps, characters behind the padding.
any_ids = (
    st.lists(st.sampled_from([0, 1, 98, 261]) | st.integers(0, 261), min_size=50, max_size=50)
    | st.lists(st.integers(1, 261), min_size=1, max_size=3).map(lambda ids: [0] * (50 - len(ids)) + ids)
    | st.lists(st.integers(1, 261), min_size=1, max_size=3).map(lambda ids: ids + [0] * (50 - len(ids)))
).map(np.array)
token_ids = word_ids | any_ids.filter(np.any)


@st.composite
def batches(draw: st.DrawFn, max_rows: int = 4) -> np.ndarray:
    """Character ids; some of the tokens come again."""
    vocabulary = draw(st.lists(token_ids, min_size=1, max_size=5))
    lengths = draw(
        st.lists(st.integers(0, 7), min_size=1, max_size=max_rows)
        | st.builds(lambda rows, length: [length] * rows, st.integers(1, max_rows), st.integers(0, 3))
    )
    ids = np.zeros((len(lengths), max(lengths) + draw(st.integers(0, 2)), 50), dtype=np.int32)
    for row, length in enumerate(lengths):
        for timestep in range(length):
            ids[row, timestep] = draw(st.sampled_from(vocabulary))
    tokens = np.flatnonzero(lengths)
    if tokens.size and not (ids[..., 0] == 259).any():
        ids[tokens[0], 0, 0] = 259  # ids of which no token begins as it should are refused
    return ids


def stacked(output: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return torch.stack(output["activations"], dim=2).detach().numpy(), output["mask"].numpy()


def assert_agree(received: tuple[Any, Any], expected: tuple[Any, Any], atol: float = 1e-5) -> None:
    np.testing.assert_allclose(received[0], expected[0], rtol=0, atol=atol)
    np.testing.assert_array_equal(received[1], expected[1])


def warm_states(options: Any, weights: Any, batch: int) -> reference.States:
    """The reference's, for as many rows."""
    states: reference.States = {}
    for ids in warm_up_batches():
        _, _, states = reference.bilm(options, weights, ids, initial_states=states)
    return {
        (row, direction, layer): state
        for (_, direction, layer), state in states.items()
        for row in range(batch)
    }  # fmt: skip


def check_all_three(model: Model, ids: np.ndarray, setting: Setting) -> None:
    with tempfile.TemporaryDirectory() as folder, setting.used():
        checkpoint = model.write(folder)
        expected = reference.bilm(*reference.read_checkpoint(checkpoint.options_file, checkpoint.weight_file), ids)[:2]
        allennlp = import_elmo()._ElmoBiLm(checkpoint.options_file, checkpoint.weight_file)
        fused = FusedBiLm(checkpoint, token_cache_bytes=setting.token_cache_bytes(model))
        inputs = torch.from_numpy(ids).long()
        assert_agree(stacked(allennlp(inputs)), expected)
        assert_agree(stacked(fused(inputs)), expected)
        fused.reset_states()
        assert_agree(stacked(fused(inputs)), expected)
        encoder = ElmoEncoder(checkpoint, token_cache_bytes=setting.token_cache_bytes(model))
        assert_agree(encoder(ids), reference.remove_boundaries(*expected))


def check_states(
    model: Model, calls: list[np.ndarray], state: State, boundaries: bool, max_tokens: int, setting: Setting
) -> None:
    with tempfile.TemporaryDirectory() as folder, setting.used():
        checkpoint = model.write(folder)
        read = reference.read_checkpoint(checkpoint.options_file, checkpoint.weight_file)
        encoder = ElmoEncoder(
            checkpoint,
            state=state,
            keep_sentence_boundaries=boundaries,
            max_tokens_per_pass=max_tokens,
            token_cache_bytes=setting.token_cache_bytes(model),
        )
        start = warm_states(*read, batch=4) if state == "warm" else {}
        for ids in calls:
            activations, mask, ended = reference.bilm(*read, ids, initial_states=start)
            expected = (activations, mask) if boundaries else reference.remove_boundaries(activations, mask)
            assert_agree(encoder(ids), expected)
            if state == "carry":
                start = ended
        if state == "carry":
            encoder.reset_states()
            activations, mask, _ = reference.bilm(*read, calls[0])
            expected = (activations, mask) if boundaries else reference.remove_boundaries(activations, mask)
            assert_agree(encoder(calls[0]), expected)


any_case = given(model=models(), ids=batches(), setting=many_settings)
any_calls = given(
    model=models(),
    calls=st.lists(batches(), min_size=1, max_size=3),
    state=st.sampled_from(["zero", "warm", "carry"]),
    boundaries=st.booleans(),
    max_tokens=st.sampled_from([1, 7, 12, 4096]),
    setting=many_settings,
)


@settings(max_examples=12)
@any_case
def test_all_three_agree(model: Model, ids: np.ndarray, setting: Setting) -> None:
    check_all_three(model, ids, setting)


@pytest.mark.slow
@settings(max_examples=10)
@any_calls
def test_every_state_in_any_number_of_passes(**case: Any) -> None:
    check_states(**case)


@pytest.mark.slow
@settings(max_examples=200)
@any_case
def test_all_three_agree_on_many_more(model: Model, ids: np.ndarray, setting: Setting) -> None:
    check_all_three(model, ids, setting)


@pytest.mark.slow
@settings(max_examples=150)
@any_calls
def test_every_state_of_many_more(**case: Any) -> None:
    check_states(**case)


@pytest.mark.parametrize("rows", [[3, 5, 2, 5, 1], [5, 1, 1, 5], [1, 2, 3, 4]])
def test_carried_rows_follow_allennlps_through_growing_and_shrinking_batches(tmp_path: Path, rows: list[int]) -> None:
    checkpoint = Model(options_dict(n_layers=3), 3).write(tmp_path)
    allennlp = import_elmo()._ElmoBiLm(checkpoint.options_file, checkpoint.weight_file)
    fused = FusedBiLm(checkpoint)
    split = ElmoEncoder(checkpoint, state="carry", keep_sentence_boundaries=True, max_tokens_per_pass=8)
    for call, number in enumerate(rows):
        ids = batch_to_ids([["word", f"{call}", f"{row}"] * (row % 3) for row in range(number)])
        expected = stacked(allennlp(torch.from_numpy(ids).long()))
        assert_agree(stacked(fused(torch.from_numpy(ids))), expected)
        assert_agree(split(ids), expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("do_layer_norm", [False, True])
@pytest.mark.parametrize("boundaries", [False, True])
def test_inside_allennlps_elmo(tmp_path: Path, boundaries: bool, do_layer_norm: bool, threads: int) -> None:
    checkpoint = Model(options_dict(), 4).write(tmp_path)
    elmo = import_elmo().Elmo
    arguments = {"do_layer_norm": do_layer_norm, "keep_sentence_boundaries": boundaries, "dropout": 0.0}
    expected = elmo(checkpoint.options_file, checkpoint.weight_file, 3, **arguments)
    received = elmo(None, None, 3, module=FusedBiLm(checkpoint), **arguments)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for mix in expected._scalar_mixes:
            for parameter in mix.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    received.load_state_dict(expected.state_dict(), strict=False)
    assert received.get_output_dim() == expected.get_output_dim()

    calls = [
        [["The", "cat"], ["a"]],
        [["The", "dog", "sat"], [], ["<S>"] * 5],
        [["on"]],
        [["The"], ["cat"], ["s", "a"]],
    ]
    with Setting(2, 3, 3, threads).used():
        for call in calls:
            # The state goes on from call to call.
            inputs = torch.from_numpy(batch_to_ids(call)).long()
            wanted, got = expected(inputs), received(inputs)
            assert torch.equal(got["mask"], wanted["mask"])
            for mine, theirs in zip(got["elmo_representations"], wanted["elmo_representations"], strict=True):
                torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
            # The mix trains on top of it.
            for module, output in [(received, got), (expected, wanted)]:
                module.zero_grad()
                sum(part.square().sum() for part in output["elmo_representations"]).backward()
            gradients = {name: parameter.grad for name, parameter in expected.named_parameters()}
            for name, parameter in received.named_parameters():
                torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-4)
        if boundaries:  # where AllenNLP's own reshaping fails
            return
        # Four dimensions, as AllenNLP's readers of paragraphs give them.
        inputs = torch.from_numpy(batch_to_ids([["a", "b"], ["c"]] * 3)).long().reshape(3, 2, 2, 50)
        wanted, got = expected(inputs), received(inputs)
        assert torch.equal(got["mask"], wanted["mask"])
        torch.testing.assert_close(got["elmo_representations"][2], wanted["elmo_representations"][2], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_sentence_beside_short_ones_does_not_drift(tmp_path: Path, threads: int) -> None:
    """Without clipping, over several chunks of every layer."""
    checkpoint = Model(options_dict(dim=16, projection_dim=8, clip=None), 5).write(tmp_path)
    ids = batch_to_ids([["a"], [f"{i % 50}" for i in range(1500)], [], ["b", "c"] * 40])
    read = reference.read_checkpoint(checkpoint.options_file, checkpoint.weight_file)
    expected = reference.bilm(*read, ids)[:2]
    with Setting(0, 128, 1024, threads).used():
        assert_agree(stacked(FusedBiLm(checkpoint, token_cache_bytes=10_000)(torch.from_numpy(ids))), expected)


def test_more_sentences_than_a_pass_holds(tmp_path: Path) -> None:
    checkpoint = Model(options_dict(), 6).write(tmp_path)
    generator = np.random.default_rng(0)
    sentences = [[f"{word}" for word in generator.integers(0, 40, size=generator.integers(0, 4))] for _ in range(600)]
    ids = batch_to_ids(sentences)
    with torch.no_grad():
        bilm = import_elmo()._ElmoBiLm(checkpoint.options_file, checkpoint.weight_file)
        calls = [stacked(bilm(torch.from_numpy(ids).long())) for _ in range(2)]
    for max_tokens in (4096, 100):
        arguments = {"keep_sentence_boundaries": True, "max_tokens_per_pass": max_tokens}
        assert_agree(ElmoEncoder(checkpoint, **arguments)(ids), calls[0])  # type: ignore[arg-type]
        carrying = ElmoEncoder(checkpoint, state="carry", **arguments)  # type: ignore[arg-type]
        for expected in calls:
            assert_agree(carrying(ids), expected)
