"""What was trained, as AllenNLP loads it: the trainer's own activations. And published weights, come back unchanged."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import reference
import torch
from pretrain.language_models import CASES, options_of, random_batch, random_weights

from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.encoder import ElmoEncoder
from bridge.pretrain.batches import Batch
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.sizes import Size, options_of_size
from bridge.pretrain.weights import initial_weights
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions

VOCABULARY_SIZE = 12
SENTENCES = [["the", "naïve", "the", "日本語", "!"], ["a"], ["x" * 60, "internationally", "aaaa"]]
SLOW = ("medium", "original")
sizes = pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.slow if size in SLOW else ()) for size in get_args(Size)]
)


def sentence_rows(sentences: list[list[str]]) -> Batch:
    """One row a sentence, as in training; behind the end of a shorter one is any token."""
    tokens = ["<S>", "</S>", *dict.fromkeys(word for sentence in sentences for word in sentence)]
    inputs = np.zeros((2, 1 + max(map(len, sentences)), len(sentences)), dtype=np.int64)
    for row, sentence in enumerate(sentences):
        words = [tokens.index(word) for word in sentence]
        inputs[0, : len(words) + 1, row] = [0, *words]
        inputs[1, : len(words) + 1, row] = [1, *reversed(words)]
    return Batch(reference.character_ids([tokens])[0], inputs, np.full_like(inputs, -1))


def trained(
    options: ElmoOptions, weights: dict[str, np.ndarray], steps: int = 3, learning_rate: float = 0.01
) -> LanguageModel:
    """A few optimizer steps on random batches, the state carried along."""
    torch.manual_seed(0)
    model = LanguageModel(options, weights, VOCABULARY_SIZE).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    state = model.initial_state(3)
    for step in range(steps):
        losses, state = model(random_batch(step), state)
        optimizer.zero_grad()
        (losses.sum() / 2).backward()
        optimizer.step()
    return model.eval()


def assert_same_activations(model: LanguageModel, config: ElmoConfig, tolerance: float = 1e-5) -> None:
    """AllenNLP, from the files, gives what the trainer computes."""
    batch = sentence_rows(SENTENCES)
    with torch.no_grad():
        layers, _ = model.activations(batch, model.initial_state(len(SENTENCES)))
    forward, backward = torch.stack(layers, dim=1)
    char_ids = reference.character_ids(SENTENCES)
    bilm = import_elmo()._ElmoBiLm(config.options_file, config.weight_file).eval()
    with torch.no_grad():
        direct = torch.stack(bilm(torch.from_numpy(char_ids))["activations"])
    encoder = ElmoEncoder(config, engine="allennlp", keep_sentence_boundaries=True)
    encoded = encoder(char_ids).activations.permute(2, 0, 1, 3)
    assert float(direct.abs().max()) > 0.1
    for activations in (direct, encoded):
        ahead, back = activations.chunk(2, dim=-1)
        for row, sentence in enumerate(SENTENCES):
            # `<S>` and the words; backwards, `</S>` and the words from the last to the first.
            read = len(sentence) + 1
            expected = torch.stack([ahead[:, row, :read], back[:, row, 1 : read + 1].flip(1)])
            received = torch.stack([forward[:, :read, row], backward[:, :read, row]])
            torch.testing.assert_close(received, expected, rtol=0, atol=tolerance)


def case_of(name: str) -> tuple[ElmoOptions, dict[str, np.ndarray]]:
    case: dict[str, Any] = dict(CASES[name])
    scale = case.pop("scale", 1.0)
    options = options_of(**case)
    return options, random_weights(options, scale=scale)


@pytest.mark.parametrize("name", CASES)
def test_allennlp_gives_the_trainers_activations(name: str, tmp_path: Path) -> None:
    options, weights = case_of(name)
    model = trained(options, weights)
    written = model.weights()
    assert written.keys() == weights.keys()
    for dataset, values in written.items():
        assert not np.array_equal(values, weights[dataset]), f"{dataset} was not trained"
    config = write_checkpoint(tmp_path, options, written)
    checkpoint = Checkpoint.open(config)
    assert checkpoint.options == options
    assert_same_activations(model, config)


@pytest.mark.slow
@sizes
def test_published_sizes(size: Size, tmp_path: Path) -> None:
    options = options_of_size(size)
    model = trained(options, initial_weights(options, 0), steps=1, learning_rate=0.001)
    assert_same_activations(model, write_checkpoint(tmp_path, options, model.weights()))


@pytest.mark.parametrize("name", CASES)
def test_written_files_go_on_where_training_was(name: str, tmp_path: Path) -> None:
    """Trained, written, read and trained on: the same as trained in one go, but for the softmax, which has no file."""
    options, weights = case_of(name)
    model = trained(options, weights)
    config = write_checkpoint(tmp_path, options, model.weights())
    again = LanguageModel(options, read(config), VOCABULARY_SIZE).eval()
    again.softmax.load_state_dict(model.softmax.state_dict())
    batch = random_batch(7)
    losses = [one(batch, one.initial_state(3))[0] for one in (model, again)]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)


def read(config: ElmoConfig) -> dict[str, np.ndarray]:
    """What a weight file holds."""
    _, weights = reference.read_checkpoint(config.options_file, config.weight_file)
    return {name: values.astype(np.float32) for name, values in weights.items()}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_published_weights_come_back_as_they_were(name: str, dtype: type[np.floating], tmp_path: Path) -> None:
    options, weights = case_of(name)
    generator = np.random.default_rng(0)
    for dataset, values in weights.items():  # any numbers that the file can hold
        weights[dataset] = (values + generator.normal(0, 0.1, values.shape)).astype(dtype).astype(np.float32)
    config = write_checkpoint(tmp_path, options, {dataset: values.astype(dtype) for dataset, values in weights.items()})
    received = LanguageModel(options, read(config), VOCABULARY_SIZE).weights()
    assert received.keys() == weights.keys()
    for dataset, values in weights.items():
        assert received[dataset].dtype == np.float32
        kept = np.ones(values.shape, dtype=bool)
        if dataset.endswith("LSTMCell/B"):
            # AllenNLP keeps the sum of 1 and a forget bias, whose last bits are then gone.
            kept[2 * options.lstm.dim : 3 * options.lstm.dim] = False
            np.testing.assert_allclose(received[dataset][~kept], values[~kept], rtol=0, atol=2**-23)
        np.testing.assert_array_equal(received[dataset][kept], values[kept], err_msg=dataset)
    # What has come back once, comes back to the bit.
    again = LanguageModel(options, received, VOCABULARY_SIZE).weights()
    for dataset, values in received.items():
        np.testing.assert_array_equal(again[dataset], values)
