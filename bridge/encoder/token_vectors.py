"""Vectors of tokens, computed once for each distinct token and remembered: `TokenVectors`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

# Memory of an entry beside its vector: the token's 100 bytes, its number, and their places in Python's dictionary.
BYTES_PER_ENTRY = 400


class TokenCacheInfo(NamedTuple):
    """What the cache of token vectors has done, named as by `functools.lru_cache`.

    Attributes:
        hits, misses: tokens whose vector was there already, and those for which it had to be computed. Each token
            of a text counts; where a new one comes several times in a pass, it is computed once.
        maxsize, currsize: the most tokens that it can hold, and those that it holds.
    """

    hits: int
    misses: int
    maxsize: int
    currsize: int


class TokenVectors:
    """Context-independent vectors of tokens, the least recently used of which are forgotten.

    Args:
        compute: character ids `(tokens, 50)` to float32 `(tokens, dim)`.
        dim: width of a vector.
        max_bytes: memory for the vectors that are kept; 0 keeps none.
        device: of the vectors.

    Call arguments:
        char_ids: uint16 `(tokens, 50)`, in any order and number.

    Returns:
        float32 `(distinct, dim)` and, for each token, the index of its vector `(tokens,)`.
    """

    def __init__(
        self, compute: Callable[[np.ndarray], torch.Tensor], dim: int, max_bytes: int, device: torch.device
    ) -> None:
        self._compute = compute
        self._device = device
        self._lock = threading.Lock()
        self._maxsize = max_bytes // (4 * dim + BYTES_PER_ENTRY)
        self._kept = torch.empty(0, dim, dtype=torch.float32, device=device)
        self._places: OrderedDict[bytes, int] = OrderedDict()  # in `_kept`, the least recently used first
        self._hits = self._misses = 0

    def __call__(self, char_ids: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        width = char_ids.shape[1] * char_ids.itemsize
        raw = np.ascontiguousarray(char_ids).tobytes()
        keys: dict[bytes, int] = {}
        tokens = np.empty(len(char_ids), dtype=np.int64)
        first: list[int] = []  # token of each key
        for token in range(len(char_ids)):
            key = raw[token * width : (token + 1) * width]
            index = tokens[token] = keys.setdefault(key, len(keys))
            if index == len(first):
                first.append(token)
        with self._lock:
            vectors = self._vectors(list(keys), char_ids, np.array(first, dtype=np.int64), np.bincount(tokens))
        return vectors, tokens

    def info(self) -> TokenCacheInfo:
        """Hits, misses and sizes."""
        with self._lock:
            return TokenCacheInfo(self._hits, self._misses, self._maxsize, len(self._places))

    def _vectors(self, keys: list[bytes], char_ids: np.ndarray, first: np.ndarray, counts: np.ndarray) -> torch.Tensor:
        places = np.array([self._places.get(key, -1) for key in keys], dtype=np.int64)
        known, new = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        vectors = self._kept.new_empty(len(keys), self._kept.shape[1])
        vectors[self._indices(known)] = self._kept[self._indices(places[known])]
        vectors[self._indices(new)] = self._compute(char_ids[first[new]])
        self._hits += int(counts[known].sum())
        self._misses += int(counts[new].sum())
        for index in known:
            self._places.move_to_end(keys[index])
        self._keep([keys[index] for index in new], vectors[self._indices(new)])
        return vectors

    def _keep(self, keys: list[bytes], vectors: torch.Tensor) -> None:
        keys, vectors = keys[: self._maxsize], vectors[: self._maxsize]
        size = min(self._maxsize, len(self._places) + len(keys))
        if size > len(self._kept):
            grown = self._kept.new_empty(min(self._maxsize, 2 * size), self._kept.shape[1])
            grown[: len(self._kept)] = self._kept
            self._kept = grown
        try:
            places = []
            for key in keys:
                full = len(self._places) == self._maxsize
                place = self._places.popitem(last=False)[1] if full else len(self._places)
                self._places[key] = place
                places.append(place)
            self._kept[self._indices(places)] = vectors
        except BaseException:  # Ctrl-C, too: a place without its vector would be wrong for good
            self._places.clear()
            raise

    def _indices(self, values: np.ndarray | list[int]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.int64)).to(self._device)
