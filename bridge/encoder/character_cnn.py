"""A token's characters to its context-independent vector: `CharacterCnn`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from bridge.encoder.linear import Linear
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
        weights: float32 arrays by their path in `weights.hdf5`.
        device: where it runs.

    Call arguments:
        char_ids: integers `(tokens, 50)`.

    Returns:
        float32 `(tokens, projection_dim)`.

    Reference:
        Peters et al. 2018, section 3.4; Kim et al. 2016, "Character-aware neural language models".
    """

    def __init__(self, options: CharCnnOptions, weights: Mapping[str, np.ndarray], device: torch.device) -> None:
        self._device = device
        self._activation = torch.tanh if options.activation == "tanh" else torch.relu
        dim, n_filters = options.embedding.dim, options.n_filters
        # Id 0 is the row that the file does not store.
        self._embedding = torch.zeros(1 + len(weights["char_embed"]), dim, dtype=torch.float32, device=device)
        self._embedding[1:] = torch.from_numpy(weights["char_embed"])

        self._width = max(width for width, _ in options.filters)
        kernels, biases = torch.zeros(self._width * dim, n_filters, dtype=torch.float32, device="cpu"), []
        # The last window of a filter: wider ones end sooner.
        last_windows = []
        start = 0
        for i, (width, number) in enumerate(options.filters):
            kernel = torch.from_numpy(weights[f"CNN/W_cnn_{i}"]).reshape(width * dim, number)
            kernels[: width * dim, start : start + number] = kernel
            biases.append(torch.from_numpy(weights[f"CNN/b_cnn_{i}"]))
            last_windows += [MAX_CHARACTERS_PER_TOKEN - width] * number
            start += number
        self._convolutions = Linear(kernels.t(), None, "float32", device)
        self._biases = torch.cat(biases).to(device)
        beyond = np.arange(MAX_CHARACTERS_PER_TOKEN)[:, None] > np.array(last_windows)
        self._beyond = torch.from_numpy(np.where(beyond, np.float32(-np.inf), np.float32(0))).to(device)
        self._fully_inside = MAX_CHARACTERS_PER_TOKEN - self._width + 1  # as many windows every filter has

        self._highways = []
        for k in range(options.n_highway):
            weight, bias = (
                torch.from_numpy(
                    np.concatenate([weights[f"CNN_high_{k}/{part}_{gate}"].T for gate in ("transform", "carry")])
                )
                for part in ("W", "b")
            )
            self._highways.append(Linear(weight, bias, "float32", device))
        projection, bias = (torch.from_numpy(weights[f"CNN_proj/{part}_proj"]) for part in ("W", "b"))
        self._projection = Linear(projection.t(), bias, "float32", device)

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
