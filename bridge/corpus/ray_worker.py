"""What a process of a Ray cluster does: `RayWorker`, which holds a model and writes parts of the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from bridge.corpus.batching import batches, count_long_tokens
from bridge.corpus.shards import check_run, write_part
from bridge.corpus.sources import Sentence
from bridge.corpus.storage import Storage
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.shared_weights import SharedWeights
from bridge.features.metadata import FeatureMetadata
from bridge.features.parquet import ParquetCompression, features_table
from bridge.features.sentence_checks import as_stored


@dataclass(frozen=True)
class RayJob:
    """What every worker of a run is told.

    Attributes:
        storage: where parts go.
        metadata: of the output; its settings are the encoder's.
        compression: of the parts.
        device, batch_size, max_tokens: see `embed_corpus_on_ray`.
        threads: of PyTorch.
    """

    storage: Storage
    metadata: FeatureMetadata
    compression: ParquetCompression | None
    device: str
    batch_size: int
    max_tokens: int
    threads: int


class Embedded(NamedTuple):
    """What a worker did of a window: the tokens whose vectors it remembered."""

    hits: int


class RayWorker:
    """An actor. It has no state but the model, so that any worker can embed any window at any time."""

    def load(self, weights: SharedWeights, job: RayJob) -> None:
        """Makes the encoder.

        Raises:
            OutputError: see `check_run`.
        """
        check_run(job.storage, job.metadata.run)
        torch.set_num_threads(job.threads)
        self._job = job
        self._encoder = ElmoEncoder(
            weights,
            state=job.metadata.state,
            precision=job.metadata.precision,
            device=job.device,
            max_tokens_per_pass=job.max_tokens,
        )

    def embed(self, first: int, window: list[Sentence]) -> Embedded:
        """Embeds consecutive sentences, of which `first` is the number of the first one, and writes their part."""
        job = self._job
        before = self._encoder.token_cache_info().hits
        features = [np.empty((0, *job.metadata.token_shape), dtype=job.metadata.dtype)] * len(window)
        for rows in batches([len(sentence.tokens) for sentence in window], job.max_tokens, job.batch_size):
            vectors = self._encoder.embed([window[row].tokens for row in rows], job.metadata.layers)
            for row, values in zip(rows, vectors, strict=True):
                features[row] = as_stored(values, job.metadata, first + int(row), window[row].text)
        metadata = job.metadata.with_counts(long_tokens=count_long_tokens(window))
        numbers, texts = range(first, first + len(window)), [sentence.text for sentence in window]
        check_run(job.storage, job.metadata.run)
        write_part(job.storage, first, features_table(numbers, texts, features, metadata), job.compression)
        return Embedded(self._encoder.token_cache_info().hits - before)
