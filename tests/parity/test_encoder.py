"""AllenNLP's biLM, `ElmoEncoder` with both engines and the NumPy reference agree to 1e-5."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import options_dict

from bridge.encoder.arguments import Engine
from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.encoder import ElmoEncoder
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.resources.options import ElmoOptions
from bridge.text.characters import batch_to_ids

Sentences = list[list[str]]

ENGINES: tuple[Engine, ...] = ("fused", "allennlp")

MODELS: dict[str, dict[str, Any]] = {
    "relu": {},
    "tanh": {"activation": "tanh", "n_characters": 261},
    "no highway, one LSTM, no clipping": {"n_highway": 0, "n_layers": 1, "clip": None},
    "two highways, three LSTMs, no clipping": {"n_highway": 2, "n_layers": 3, "clip": 0.0},
    "clipping": {"clip": 0.05, "proj_clip": 0.01},
    "clipping, tanh, three LSTMs": {"clip": 0.05, "proj_clip": 0.02, "activation": "tanh", "n_layers": 3},
    "clipping the cell only": {"clip": 0.05, "proj_clip": None, "n_highway": 2},
    "clipping the projection only": {"clip": 0.0, "proj_clip": 0.05, "n_highway": 0},
    "projection wider than the cell": {"dim": 3, "projection_dim": 7, "n_highway": 2, "activation": "tanh"},
    "one of everything": {"dim": 1, "projection_dim": 1, "char_dim": 1, "filters": ((1, 1),), "n_characters": 261},
    "widest filter": {"filters": ((50, 2), (7, 3))},
}

tokens = st.sampled_from(["The", "cat", "", "<S>", "</S>", "é" * 30]) | st.text(max_size=6)
sentences = st.lists(tokens, max_size=5)
batches = st.lists(sentences, min_size=1, max_size=3)


class Model(NamedTuple):
    options: dict[str, Any]
    weights: dict[str, Any]
    bilm: Any  # AllenNLP's
    with_boundaries: dict[Engine, ElmoEncoder]
    without: dict[Engine, ElmoEncoder]
    carrying: dict[Engine, ElmoEncoder]

    def __repr__(self) -> str:  # short, for Hypothesis
        return f"Model({self.options})"


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    arguments = dict(MODELS[request.param])
    proj_clip = arguments.pop("proj_clip", arguments.get("clip", 3.0))
    options = options_dict(**arguments)
    options["lstm"]["proj_clip"] = proj_clip
    validated = ElmoOptions.model_validate(options)
    weights = initial_weights(validated, seed=len(request.param))
    config = write_checkpoint(tmp_path_factory.mktemp("model"), validated, weights)
    return Model(
        *reference.read_checkpoint(config.options_file, config.weight_file),
        import_elmo()._ElmoBiLm(config.options_file, config.weight_file),
        {engine: ElmoEncoder(config, engine=engine, keep_sentence_boundaries=True) for engine in ENGINES},
        {engine: ElmoEncoder(config, engine=engine) for engine in ENGINES},
        {
            engine: ElmoEncoder(config, engine=engine, state="carry", keep_sentence_boundaries=True)
            for engine in ENGINES
        },
    )


def allennlp(model: Model, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        output = model.bilm(torch.from_numpy(ids).long())
    return torch.stack(output["activations"], dim=2).numpy(), output["mask"].numpy()


def is_taken_for_unused(states: reference.States) -> bool:
    """AllenNLP takes a row whose state sums to zero for one that was not run, and adds its older state to it.

    Only clipping makes that likely: of values that are all at the limit, half can have either sign.
    """
    rows = {row for row, _, layer in states if layer == 0}
    sums = [sum(states[row, direction, 0][part].sum() for direction in (0, 1)) for row in rows for part in (0, 1)]
    return bool(np.abs(sums).min() < 1e-6)


def assert_agree(received: tuple[Any, Any], expected: tuple[Any, Any], whose: str = "AllenNLP's own") -> None:
    np.testing.assert_allclose(received[0], expected[0], rtol=0, atol=1e-5, err_msg=whose)
    np.testing.assert_array_equal(received[1], expected[1], err_msg=whose)


@settings(max_examples=8)
@given(batch=batches, padding=st.integers(0, 2))
def test_all_agree(model: Model, batch: Sentences, padding: int) -> None:
    ids = batch_to_ids(batch, max_sequence_length=max(map(len, batch)) + padding)
    activations, mask, _ = reference.bilm(model.options, model.weights, ids)

    model.bilm._elmo_lstm.reset_states()
    assert_agree(allennlp(model, ids), (activations, mask))
    for engine in ENGINES:
        assert_agree(model.with_boundaries[engine](ids), (activations, mask), engine)
        assert_agree(model.without[engine](ids), reference.remove_boundaries(activations, mask), engine)


@pytest.mark.slow
@settings(max_examples=5)
@given(calls=st.lists(batches, min_size=2, max_size=3))
def test_all_agree_on_the_carried_state(model: Model, calls: list[Sentences]) -> None:
    model.bilm._elmo_lstm.reset_states()
    for encoder in model.carrying.values():
        encoder.reset_states()
    states: reference.States = {}
    accident = False  # which the fused engine leaves out, as the reference does
    for batch in calls:
        ids = batch_to_ids(batch)
        activations, mask, states = reference.bilm(model.options, model.weights, ids, initial_states=states)
        assert_agree(model.carrying["fused"](ids), (activations, mask), "fused")
        if not accident:
            assert_agree(allennlp(model, ids), (activations, mask))
            assert_agree(model.carrying["allennlp"](ids), (activations, mask), "allennlp")
        accident = accident or is_taken_for_unused(states)


def test_the_models_exercise_what_they_are_for(model: Model) -> None:
    ids = batch_to_ids([["The", "cat", "sat", "on", "a", "mat"]])
    activations, _, states = reference.bilm(model.options, model.weights, ids)
    carried, _, _ = reference.bilm(model.options, model.weights, ids, initial_states=states)
    assert (np.abs(activations).max(axis=(0, 1, 3)) > 1e-3).all()
    assert np.abs(carried - activations).max() > 1e-3

    # Clipping is active where the table says so: a state is exactly at its limit.
    hidden, memory = (np.concatenate(parts) for parts in zip(*states.values(), strict=True))
    for values, name in [(hidden, "proj_clip"), (memory, "cell_clip")]:
        limit = model.options["lstm"][name]
        assert (np.abs(values).max() == limit) == (limit in (0.01, 0.02, 0.05))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("boundaries", [False, True])
def test_allennlps_elmo_is_a_mix_of_these_layers(model: Model, boundaries: bool, engine: Engine) -> None:
    encoder = (model.with_boundaries if boundaries else model.without)[engine]
    batch = [["The", "cat", "sat"], ["Hello"], ["é"] * 5]
    encoder.reset_states()
    with torch.no_grad():
        elmo = encoder.module(torch.from_numpy(batch_to_ids(batch)).long())
    for row, vectors in enumerate(encoder.embed(batch, layers="average")):
        mix = elmo["elmo_representations"][0][row][elmo["mask"][row]]
        np.testing.assert_allclose(vectors, mix, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_module_carries_its_state_as_allennlps_does(model: Model, engine: Engine) -> None:
    encoder = model.with_boundaries[engine]
    encoder.reset_states()
    states: reference.States = {}
    for batch in ([["The", "cat", "sat"], ["Hello"]], [["on"]], [["The", "cat"], ["é"] * 5, ["new"]]):
        ids = batch_to_ids(batch)
        activations, mask, states = reference.bilm(model.options, model.weights, ids, initial_states=states)
        with torch.no_grad():
            elmo = encoder.module(torch.from_numpy(ids).long())
        assert_agree((elmo["elmo_representations"][0], elmo["mask"]), (activations.mean(axis=2), mask), engine)
        if engine == "allennlp" and is_taken_for_unused(states):
            break
