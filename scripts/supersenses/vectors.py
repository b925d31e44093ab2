"""What the same head stands on: stored layers of a biLM, or the numbers of words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from rich.console import Console
from wordnet import Split

from bridge import Checkpoint, FeatureStore, ScalarMix, embed_corpus
from bridge.errors import FeatureStoreError, ResourceNotFoundError
from bridge.features.batches import BatchPlan
from supersenses.data import PADDING, Part, Vocabulary

# Larger than the default: batches are large, and are to be mixed.
POOL_TOKENS = 65_536
TEST_BATCH = 512


class Vectors(Protocol):
    """Where a model's vectors are from.

    Attributes:
        name: in tables.
        version: what they follow from, beside the sentences.
    """

    name: str
    version: str

    def layers(self, share: Part) -> Sequence[keras.KerasTensor]:
        """A new model's input, vectors `(batch, timesteps, dim)` of it, and a mask: where a token is."""

    def training(self, share: Part, batch_size: int, seed: int) -> tf.data.Dataset:
        """Endless batches of inputs and labels: every epoch in another order, the same for all kinds of vectors."""

    def inputs(self, split: Split, share: Part) -> tf.data.Dataset:
        """The inputs of a part, in order, and its labels. `share` is what the model was trained on."""


class StoredLayers:
    """All layers of a biLM, computed once: a mix of them is learned.

    Args:
        name: in tables.
        checkpoint: the biLM.
        parts: the sentences.
        folder: for the feature files. Those that are there are used if they are of the same weights and sentences.
        console: where to show progress.
    """

    def __init__(
        self, name: str, checkpoint: Checkpoint, parts: dict[Split, Part], folder: Path, console: Console
    ) -> None:
        self.name = name
        self.version = checkpoint.fingerprint
        self.checkpoint = checkpoint
        self.parts = parts
        self.folder = folder / name.replace(" ", "_").lower()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stores = {split: self._stored(split, part, console) for split, part in parts.items()}
        self.shares: dict[int, FeatureStore] = {len(parts["train"]): self.stores["train"]}

    def _stored(self, split: Split, part: Part, console: Console) -> FeatureStore:
        path, sentences = self.folder / f"{split}.hdf5", self.folder / f"{split}.sha256"
        if sentences.exists() and sentences.read_text(encoding="utf-8") == part.digest:
            try:
                return FeatureStore.open(path, config=self.checkpoint)
            except (FeatureStoreError, ResourceNotFoundError):
                console.print(f"{path} is of other weights: it is made anew")
        sentences.unlink(missing_ok=True)
        text = self.folder / f"{split}.txt"
        text.write_text(part.lines, encoding="utf-8")
        report = embed_corpus(
            text, path, self.checkpoint, layout="packed", dtype="float16", overwrite=True, console=console
        )
        console.print(
            f"{self.name}, {split}: {report.embedded_tokens:,} tokens in {report.seconds:.0f} s to {report.output}"
        )
        sentences.write_text(part.digest, encoding="utf-8")
        return FeatureStore.open(path, config=self.checkpoint)

    def _share(self, share: Part) -> FeatureStore:
        """The features of the first sentences of the training part, as a file of their own."""
        if len(share) not in self.shares:
            path = self.folder / f"first_{len(share)}.hdf5"
            metadata = self.stores["train"].metadata
            assert metadata is not None  # `open` has compared it
            with FeatureStore.create(path, metadata, layout="packed", overwrite=True) as writer:
                for number, tokens in enumerate(share.tokens):
                    writer.append(self.stores["train"][number], tokens)
            self.shares[len(share)] = FeatureStore.open(path)
        return self.shares[len(share)]

    def layers(self, share: Part) -> Sequence[keras.KerasTensor]:
        inputs = keras.Input((None, *self.stores["train"].token_shape), name="elmo_features")
        # Padding is zeros, in every layer.
        return inputs, ScalarMix(name="mix")(inputs), ops.any(inputs[:, :, 0] != 0, axis=-1)

    def training(self, share: Part, batch_size: int, seed: int) -> tf.data.Dataset:
        return (
            self._share(share)
            .dataset(share.labels, batch_size=batch_size, shuffle=True, seed=seed, pool_tokens=POOL_TOKENS)
            .repeat()
        )

    def inputs(self, split: Split, share: Part) -> tf.data.Dataset:
        return self.stores[split].dataset(self.parts[split].labels, batch_size=TEST_BATCH)


class LearnedWords:
    """A plain `Embedding`: a vector for each word of the sentences that a model is trained on.

    Args:
        name: in tables.
        parts: the sentences.
        dim: of a word's vector.
        min_count: see `Vocabulary`.
    """

    def __init__(self, name: str, parts: dict[Split, Part], dim: int, min_count: int = 2) -> None:
        self.name = name
        self.version = f"dim {dim}, min_count {min_count}"
        self.parts = parts
        self.dim = dim
        self.min_count = min_count

    def layers(self, share: Part) -> Sequence[keras.KerasTensor]:
        inputs = keras.Input((None,), dtype="int32", name="words")
        words = len(Vocabulary(share.tokens, self.min_count))
        return inputs, keras.layers.Embedding(words, self.dim)(inputs), inputs != PADDING

    def training(self, share: Part, batch_size: int, seed: int) -> tf.data.Dataset:
        plan = BatchPlan(share.lengths, batch_size=batch_size, shuffle=True, seed=seed, pool_tokens=POOL_TOKENS)
        return self._batches(share, share, plan, count(), tf.data.INFINITE_CARDINALITY)

    def inputs(self, split: Split, share: Part) -> tf.data.Dataset:
        part = self.parts[split]
        plan = BatchPlan(part.lengths, batch_size=TEST_BATCH)
        return self._batches(part, share, plan, [0], len(plan))

    def _batches(
        self, part: Part, share: Part, plan: BatchPlan, epochs: Iterable[int], cardinality: int
    ) -> tf.data.Dataset:
        vocabulary = Vocabulary(share.tokens, self.min_count)

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for epoch in epochs:
                for numbers in plan.batches(epoch):
                    yield vocabulary.ids([part.tokens[number] for number in numbers]), part.labels[numbers]

        specs = (tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None,), tf.int64))
        dataset = tf.data.Dataset.from_generator(batches, output_signature=specs)
        return dataset.apply(tf.data.experimental.assert_cardinality(cardinality)).prefetch(2)
