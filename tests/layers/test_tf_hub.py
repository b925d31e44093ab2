"""docs/tf_hub.md tells the truth: its code runs, and gives what AllenNLP's ELMo gives for each of TF-Hub's outputs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from layers.harness import assert_close, keras_mask

from bridge import Checkpoint, batch_to_ids
from bridge.encoder.elmo_import import import_elmo

DOC = Path(__file__).parents[2] / "docs" / "tf_hub.md"
SENTENCES = [["the", "soup", "was", "cold"], ["not", "bad"]]
MASK = np.array([[True] * 4, [True, True, False, False]])


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the code of the page leaves behind."""
    text = DOC.read_text("utf-8")
    result: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, str(DOC), "exec"), result)
    return result


@pytest.fixture(scope="module")
def layers() -> np.ndarray:
    """AllenNLP's biLM layers `(batch, timesteps, 3, 128)` of the page's sentences, without sentence boundaries."""
    config = Checkpoint.open("demo").config
    elmo = import_elmo().Elmo(config.options_file, config.weight_file, 1, dropout=0)
    with torch.no_grad():
        output = elmo._elmo_lstm(torch.from_numpy(batch_to_ids(SENTENCES)).long())
    activations = torch.stack(output["activations"], dim=2).double().numpy()
    without_boundaries, mask = reference.remove_boundaries(activations, output["mask"].numpy().astype(bool))
    np.testing.assert_array_equal(mask, MASK)
    return without_boundaries


def test_word_emb(names: dict[str, Any], layers: np.ndarray) -> None:
    assert_close(names["word_emb"], layers[:, :, 0, :64])
    assert_close(names["word_emb"], layers[:, :, 0, 64:])


@pytest.mark.parametrize("number", [1, 2])
def test_lstm_outputs(number: int, names: dict[str, Any], layers: np.ndarray) -> None:
    assert_close(names[f"lstm_outputs{number}"], layers[:, :, number])
    assert not np.allclose(layers[:, :, 1], layers[:, :, 2], atol=1e-3)


def test_elmo(names: dict[str, Any], layers: np.ndarray) -> None:
    assert_close(names["elmo"], layers.mean(axis=2))
    np.testing.assert_array_equal(keras_mask(names["elmo"]), MASK)


def test_default(names: dict[str, Any], layers: np.ndarray) -> None:
    """The mean over words, not over padding."""
    vectors = layers.mean(axis=2)
    assert_close(names["default"], [vectors[0].mean(axis=0), vectors[1, :2].mean(axis=0)])


@pytest.mark.parametrize("name", ["from_sentences", "from_tokens", "from_lengths"])
def test_every_input_gives_the_same(name: str, names: dict[str, Any], layers: np.ndarray) -> None:
    assert_close(names[name], layers.mean(axis=2))


def test_the_page_maps_every_output() -> None:
    keys = re.findall(r'^\| `"(\w+)"` \|', DOC.read_text("utf-8"), re.MULTILINE)
    assert keys == ["word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default"]
