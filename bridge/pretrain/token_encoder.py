"""Characters of distinct tokens to their vectors, in training: `token_vectors`."""

from __future__ import annotations

from typing import Any

import torch

from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN, PADDING

# So many groups of tokens of like length: the longest word of a batch does not set the work for all.
LENGTH_GROUPS = 4


def token_vectors(embedder: Any, char_ids: torch.Tensor) -> torch.Tensor:
    """What AllenNLP's `_ElmoCharacterEncoder` computes of tokens, without sentences and their boundaries.

    The padding behind a word is not convolved beyond the first window that has nothing else: all of them give the
    same numbers.

    Args:
        embedder: an `_ElmoCharacterEncoder`, whose weights are used.
        char_ids: integers `(tokens, 50)`, on the CPU, where asking for the lengths of words makes no GPU wait.

    Returns:
        `(tokens, projection_dim)`.

    Reference:
        Peters et al. 2018, section 3.4; Kim et al. 2016, "Character-aware neural language models".
    """
    activation = torch.tanh if embedder._options["char_cnn"]["activation"] == "tanh" else torch.relu
    widest = max(convolution.kernel_size[0] for convolution in embedder._convolutions)
    device = embedder._char_embedding_weights.device
    is_character = char_ids != PADDING
    lengths = (is_character * torch.arange(1, char_ids.shape[1] + 1)).amax(dim=1)
    lengths, order = torch.sort(lengths, stable=True)
    pooled = []
    for group, group_lengths in zip(order.chunk(LENGTH_GROUPS), lengths.chunk(LENGTH_GROUPS), strict=True):
        characters = char_ids[group, : min(int(group_lengths[-1]) + widest, MAX_CHARACTERS_PER_TOKEN)].to(device)
        embedded = torch.nn.functional.embedding(characters, embedder._char_embedding_weights).transpose(1, 2)
        pooled.append(torch.cat([convolve(embedded).max(dim=2).values for convolve in embedder._convolutions], dim=1))
    vectors = embedder._projection(embedder._highways(activation(torch.cat(pooled))))
    return vectors[torch.argsort(order).to(device)]
