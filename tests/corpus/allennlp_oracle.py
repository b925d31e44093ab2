"""What AllenNLP makes of sentences, one batch after the other."""

import numpy as np
import torch

from bridge import Checkpoint, ElmoConfig
from bridge.encoder.elmo_import import import_elmo


def allennlp_layers(
    config: ElmoConfig, sentences: list[list[str]], *, batch_size: int = 1, carry: bool = False
) -> list[np.ndarray]:
    """float32 `(num_layers, tokens, output_dim)` of each sentence, as the `elmo` command of AllenNLP stored it.

    Every sentence starts from the zero state, or with `carry` each row of a batch from where that row ended before.
    """
    allennlp, checkpoint = import_elmo(), Checkpoint.open(config)
    elmo = allennlp.Elmo(str(checkpoint.options_file), str(checkpoint.weight_file), 1, dropout=0.0)
    bilm = elmo.eval()._elmo_lstm
    found = []
    for start in range(0, len(sentences), batch_size):
        batch = sentences[start : start + batch_size]
        if not carry:
            bilm._elmo_lstm.reset_states()
        if not any(batch):
            found += [np.zeros((checkpoint.num_layers, 0, checkpoint.output_dim), dtype=np.float32)] * len(batch)
            continue
        with torch.no_grad():
            layers = torch.stack(bilm(allennlp.batch_to_ids(batch))["activations"], dim=1)
        found += [layers[row, :, 1 : len(tokens) + 1].numpy() for row, tokens in enumerate(batch)]
    return found
