"""A quick training run, for the tests of training and of resuming."""

from pathlib import Path
from typing import Any

import keras
from heads.examples import TAGS, plain_vectors, tagged

from bridge.heads import EntityScores, LabelledData, TokenAccuracy, train


def quick_tagger(units: int = 4, learning_rate: float = 0.05) -> keras.Model:
    """Without an LSTM, which takes seconds to trace; with randomness in every step."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dropout(0.3), keras.layers.Dense(units), keras.layers.Dense(len(TAGS), "softmax")]
    model = keras.Sequential([keras.Input((None,), dtype="string"), *plain_vectors(), *layers])
    model.compile(
        keras.optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=[TokenAccuracy(), EntityScores(TAGS)],
    )
    return model


def tagging_data() -> tuple[LabelledData, LabelledData]:
    return LabelledData(tagged(40, seed=0), TAGS), LabelledData(tagged(20, seed=1), TAGS)


def run_quick(folder: Path, **arguments: Any) -> tuple[dict[str, list[float]], keras.Model]:
    model = quick_tagger()
    settings = {"epochs": 5, "batch_size": 16, "patience": 2, "seed": 3, **arguments}
    return train(model, folder, *tagging_data(), **settings), model
