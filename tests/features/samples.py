"""Small feature files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.features.metadata import FeatureMetadata
from bridge.features.store import FeatureStore

# What breaks readers: an empty line, equal lines, what HDF5 takes for paths, JSON's own characters, and other scripts.
SENTENCES = ["the cat sat", "", "yes .", 'a / b "q" \\ %2F', ".", "yes .", "Größe \U0001f600 中"]
LENGTHS = [3, 0, 2, 6, 1, 2, 3]


def metadata_of(**changes: Any) -> FeatureMetadata:
    """Metadata of 3 layers of 4 numbers, changed as said."""
    values = {
        "fingerprint": "0123456789abcdef" * 4,
        "state": "zero",
        "precision": "float32",
        "layers": "all",
        "dtype": "float32",
        "tokenization": "whitespace",
        "num_layers": 3,
        "output_dim": 4,
        "run": "test",
        "versions": {"numpy": "2"},
    }
    return FeatureMetadata.model_validate(values | changes)


def features_of(metadata: FeatureMetadata, lengths: list[int] = LENGTHS, seed: int = 0) -> list[np.ndarray]:
    """Random features that float16 can hold as they are."""
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal((length, *metadata.token_shape)).astype(np.float16).astype(metadata.dtype)
        for length in lengths
    ]


def write_store(
    path: Path,
    metadata: FeatureMetadata | None = None,
    features: list[np.ndarray] | None = None,
    sentences: Sequence[str | None] | None = None,
    **arguments: Any,
) -> list[np.ndarray]:
    """Writes a store; returns its features."""
    metadata = metadata_of() if metadata is None else metadata
    features = features_of(metadata) if features is None else features
    with FeatureStore.create(path, metadata, **arguments) as writer:
        for values, sentence in zip(features, SENTENCES if sentences is None else sentences, strict=True):
            writer.append(values, sentence)
    return features
