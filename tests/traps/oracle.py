"""What the right vectors are: AllenNLP's own, one sentence at a time."""

from collections.abc import Sequence

import numpy as np
import torch

from bridge import ElmoConfig
from bridge.encoder.elmo_import import import_elmo


def alone(config: ElmoConfig, tokens: Sequence[str]) -> np.ndarray:
    """AllenNLP's vectors `(timesteps, output_dim)` of a sentence in a batch of its own, from the zero state."""
    allennlp = import_elmo()
    elmo = allennlp.Elmo(str(config.options_file), str(config.weight_file), 1, dropout=0.0).eval()
    with torch.no_grad():
        return elmo(allennlp.batch_to_ids([tokens]))["elmo_representations"][0][0].numpy()


def assert_rows(vectors: np.ndarray, config: ElmoConfig, sentences: Sequence[Sequence[str]]) -> None:
    """`vectors` `(batch, timesteps, output_dim)` are AllenNLP's of each sentence alone, and zeros at padding."""
    vectors = np.asarray(vectors)
    assert len(vectors) == len(sentences)
    for row, tokens in zip(vectors, sentences, strict=True):
        expected = np.zeros_like(row)
        if tokens:
            expected[: len(tokens)] = alone(config, tokens)[: len(row)]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)
