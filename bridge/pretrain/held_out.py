"""How well a biLM predicts a text that it does not learn: `held_out_losses`."""

from __future__ import annotations

import numpy as np
import torch

from bridge.corpus.sources import Corpus
from bridge.pretrain.batches import held_out_batches
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.vocabulary import Vocabulary


def held_out_losses(
    model: LanguageModel, corpus: Corpus, vocabulary: Vocabulary, *, batch_size: int, unroll_steps: int
) -> tuple[float, float]:
    """Mean negative log likelihood of a text, forward and backward, in nats; `exp` of it is the perplexity.

    The text is read in its order from a zero state, without dropout. The model comes back in training mode; neither
    the random numbers nor the state of its training are touched.
    """
    sums, numbers = np.zeros(2), np.zeros(2)
    state = model.initial_state(batch_size)
    model.eval()
    try:
        with torch.no_grad():
            for batch in held_out_batches(corpus, vocabulary, batch_size=batch_size, unroll_steps=unroll_steps):
                losses, state = model(batch, state)
                known = (batch.targets >= 0).sum(axis=(1, 2))
                sums += losses.double().cpu().numpy() * known
                numbers += known
    finally:
        model.train()
    forward, backward = (sums / numbers).tolist()
    return forward, backward
