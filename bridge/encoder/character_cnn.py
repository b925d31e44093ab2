"""A token's characters to its context-independent vector: `CharacterCnn`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from bridge.encoder.linear import Linear, as_tensor
from bridge.resources.options import CharCnnOptions
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN, PADDING

TOKENS_PER_BLOCK = 64


class CharacterCnn:
    """Character embedding, convolutions, highway layers and projection, for tokens and not for sentences.

    All convolutions are one product of windows of characters with the filters, the narrow filters filled up with zeros.
    The padding behind a word is not convolved: every window in it gives the same numbers, and one of them is enough
    for the maximum.

    Args:
        options: of the character CNN.
        weights: see `PreparedWeights`.
        device: where it runs.
        share: see `Linear`.

    Call arguments:
        char_ids: integers `(tokens, 50)`.

    Returns:
        float32 `(tokens, projection_dim)`.

    Reference:
        Peters et al. 2018, section 3.4; Kim et al. 2016, "Character-aware neural language models".
    """

    def __init__(
        self,
        options: CharCnnOptions,
        weights: Mapping[str, np.ndarray],
        device: torch.device,
        share: bool = False,
    ) -> None:
        def linear(name: str, bias: torch.Tensor | None) -> Linear:
            return Linear(as_tensor(weights[f"{name}/W"]), bias, "float32", device, share)

        self._device = device
        self._activation = torch.tanh if options.activation == "tanh" else torch.relu
        self._embedding = as_tensor(weights["char_embed"]).to(device)
        self._width = max(width for width, _ in options.filters)
        self._convolutions = linear("CNN", None)
        self._biases = as_tensor(weights["CNN/b"]).to(device)
        # The last window of a filter: wider ones end sooner.
        last_windows = [MAX_CHARACTERS_PER_TOKEN - width for width, number in options.filters for _ in range(number)]
        beyond = np.arange(MAX_CHARACTERS_PER_TOKEN)[:, None] > np.array(last_windows)
        self._beyond = torch.from_numpy(np.where(beyond, np.float32(-np.inf), np.float32(0))).to(device)
        self._fully_inside = MAX_CHARACTERS_PER_TOKEN - self._width + 1  # as many windows every filter has

        names = [f"CNN_high_{k}" for k in range(options.n_highway)] + ["CNN_proj"]
        *self._highways, self._projection = (linear(name, as_tensor(weights[f"{name}/b"])) for name in names)

    def __call__(self, char_ids: np.ndarray) -> torch.Tensor:
        vectors = self._embedding.new_empty(len(char_ids), self._projection.out_features)
        for tokens, n_characters in _blocks_of_similar_length(char_ids):
            characters = torch.from_numpy(char_ids[tokens].astype(np.int64)).to(self._device)
            x = self._activation(self._convolve(self._embedding[characters], n_characters))
            for highway in self._highways:
                transformed, gate = highway(x).chunk(2, dim=1)
                # The file's "carry" gate lets the transformed input through.
                x = torch.lerp(x, transformed.relu_(), gate.sigmoid_())
            vectors[torch.from_numpy(tokens).to(self._device)] = self._projection(x)
        return vectors

    def _convolve(self, embedded: torch.Tensor, n_characters: int) -> torch.Tensor:
        """The maximum of every filter over its windows: `(tokens, 50, dim)` to `(tokens, n_filters)`.

        No token is longer than `n_characters`; window number `n_characters` is in the padding behind all of them.
        """
        tokens, _, dim = embedded.shape
        n_windows = min(n_characters + 1, MAX_CHARACTERS_PER_TOKEN)
        # Windows may reach beyond the 50 characters, where filters that do so are masked out.
        padded = torch.nn.functional.pad(embedded, (0, 0, 0, self._width - 1))
        size = (tokens, n_windows, self._width * dim)
        windows = padded.as_strided(size, (padded.stride(0), dim, 1)).reshape(-1, self._width * dim)
        convolved = self._convolutions(windows).view(tokens, n_windows, -1)
        if n_windows > self._fully_inside:
            convolved += self._beyond[:n_windows]
        return convolved.amax(dim=1).add_(self._biases)


def _blocks_of_similar_length(char_ids: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Indices of the tokens of each block, and the number of characters of its longest token."""
    is_character = char_ids[:, ::-1] != PADDING
    lengths = np.where(is_character.any(axis=1), char_ids.shape[1] - is_character.argmax(axis=1), 0)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), TOKENS_PER_BLOCK):
        tokens = order[start : start + TOKENS_PER_BLOCK]
        yield tokens, int(lengths[tokens[-1]])
