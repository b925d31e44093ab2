"""The head that all vectors get, and its training."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from rich.console import Console
from wordnet import LEXICOGRAPHER_FILES

from bridge.whole_file import write_file
from supersenses.data import Part
from supersenses.vectors import Vectors


@dataclass(frozen=True)
class Settings:
    """Of the head and its training, the same for all vectors.

    Attributes:
        units: of the dense layer over every token.
        dropout: on the tokens' vectors, and on what is pooled of them.
        learning_rate: Adam's, at the begin; it falls to 0 by a cosine.
        rounds: the most looks at the dev part.
        patience: rounds without a better accuracy there after which training ends.
        sentences: in a round at least, by several passes over a small share.
    """

    units: int = 256
    dropout: tuple[float, float] = (0.1, 0.3)
    learning_rate: float = 3e-3
    rounds: int = 6
    patience: int = 3
    sentences: int = 10_000

    @staticmethod
    def batch_size(sentences: int) -> int:
        """Of a training with so many sentences."""
        return 32 if sentences < 3_000 else 128 if sentences < 30_000 else 512


class MeanAndMax(keras.layers.Layer):
    """The mean and the maximum over the tokens of a sentence, `(batch, timesteps, dim)` to `(batch, 2 * dim)`.

    `known`, bool `(batch, timesteps)`, is true where a token is.
    """

    def call(self, inputs: Any, known: Any) -> Any:
        known = ops.cast(known, inputs.dtype)[..., None]
        mean = ops.sum(inputs * known, axis=1) / ops.sum(known, axis=1)
        # What comes in is not negative.
        return ops.concatenate([mean, ops.max(inputs * known, axis=1)], axis=-1)


def build(vectors: Vectors, share: Part, settings: Settings, steps: int) -> keras.Model:
    """A compiled model of the vectors and the head: logits `(batch, 45)`."""
    inputs, outputs, known = vectors.layers(share)
    outputs = keras.layers.Dropout(settings.dropout[0])(outputs)
    outputs = keras.layers.Dense(settings.units, activation="relu")(outputs)
    outputs = MeanAndMax()(outputs, known)
    outputs = keras.layers.Dropout(settings.dropout[1])(outputs)
    outputs = keras.layers.Dense(len(LEXICOGRAPHER_FILES))(outputs)
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


class _Lines(keras.callbacks.Callback):
    """A line a round."""

    def __init__(self, title: str, console: Console) -> None:
        super().__init__()
        self.title = title
        self.console = console
        self.begin = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.console.print(
            f"{self.title}  round {epoch + 1}  training {logs['accuracy']:.3f}  dev {logs['val_accuracy']:.3f}  "
            f"{time.monotonic() - self.begin:.0f} s"
        )


def predictions(
    vectors: Vectors,
    parts: dict[Any, Part],
    percent: int,
    seed: int,
    settings: Settings,
    folder: Path,
    console: Console,
) -> np.ndarray:
    """Trains a head on a share of the labels, and returns what it says of the test part: int64 `(sentences,)`.

    What `folder` has of the same training is returned as it is.
    """
    share = parts["train"].share(percent)
    title = f"{vectors.name:<14} {percent:>3}%  seed {seed}"
    made_of = {
        "vectors": [vectors.name, vectors.version],
        "sentences": {split: part.digest for split, part in parts.items()},
        "settings": asdict(settings),
        "percent": percent,
        "seed": seed,
        "keras": keras.__version__,
    }
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    path = folder / f"{vectors.name.replace(' ', '_').lower()}-{percent}-{seed}.npz"
    if path.exists():
        with np.load(path) as file:
            if str(file["digest"]) == digest:
                console.print(f"{title}  is in {path}")
                return file["predicted"]
    keras.utils.clear_session()  # of the model before this one
    keras.utils.set_random_seed(seed)
    batch_size = settings.batch_size(len(share))
    passes = -(-settings.sentences // len(share))
    steps = passes * -(-len(share) // batch_size)
    model = build(vectors, share, settings, steps * settings.rounds)
    model.fit(
        vectors.training(share, batch_size, seed),
        steps_per_epoch=steps,
        epochs=settings.rounds,
        validation_data=vectors.inputs("dev", share),
        callbacks=[
            keras.callbacks.EarlyStopping(
                "val_accuracy", mode="max", patience=settings.patience, restore_best_weights=True
            ),
            _Lines(title, console),
        ],
        shuffle=False,
        verbose=0,
    )
    predicted = model.predict(vectors.inputs("test", share), verbose=0).argmax(axis=-1)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda partial: np.savez(partial, digest=digest, predicted=predicted, labels=parts["test"].labels))
    return predicted
