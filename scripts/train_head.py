"""Trains a Keras head on ELMo features, beside the same head on a plain `keras.layers.Embedding`.

Runs on the embedded demo model and its labelled sentences by default; `--config` names other weights.
"""

import argparse
import csv
import math
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it would greet every run

import keras
import matplotlib as mpl
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bridge import BridgeError, Checkpoint, ElmoEmbedding

mpl.use("Agg")  # writes files, needs no screen
from matplotlib import pyplot as plt

DEMO_SENTENCES = Path(__file__).resolve().parent.parent / "bridge" / "resources" / "demo" / "sentences.tsv"
BATCH_SIZE = 32
NEW_SENTENCES = (
    "the soup was not bad , and the bread was fresh .",
    "the soup was stale , and the bread was not good .",
    "honestly , the room was hardly warm , while the view was bad .",
)
console = Console()


class ProgressBar(keras.callbacks.Callback):
    """One bar for a whole training, with the latest accuracies."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.bar = Progress(
            TextColumn(f"{title:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs  {task.description}"),
            TimeElapsedColumn(),
            console=console,
        )
        self.task = self.bar.add_task("", total=None)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.bar.update(self.task, total=self.params["epochs"])
        self.bar.start()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        text = "  ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items() if "accuracy" in name)
        self.bar.update(self.task, advance=1, description=text)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.bar.stop()


def read_sentences(path: Path, split: str) -> tuple[tf.Tensor, np.ndarray]:
    """String tokens `(sentences, timesteps)`, `""` as padding, and labels `(sentences,)`: 1 is praise."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == split]
    tokens = tf.ragged.constant([row["sentence"].split() for row in rows]).to_tensor()
    return tokens, np.array([row["label"] == "praise" for row in rows], dtype="float32")


def head_on(*token_vectors: keras.layers.Layer, steps: int) -> keras.Model:
    """The same head on whatever turns string tokens into vectors with a mask; `steps` are those of the training."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="string"),
            *token_vectors,
            keras.layers.Dropout(0.1),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    learning_rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    model.compile(keras.optimizers.Adam(learning_rate), "binary_crossentropy", metrics=["accuracy"])
    return model


def plot(path: Path, histories: dict[str, dict[str, list[float]]], mix: np.ndarray) -> None:
    """Accuracies by epoch, and the learned mix."""
    figure, (curves, bars) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=(3, 1), layout="constrained")
    for color, (name, history) in zip(("tab:blue", "tab:orange"), histories.items(), strict=True):
        epochs = range(1, len(history["accuracy"]) + 1)
        curves.plot(epochs, history["val_accuracy"], color=color, label=f"{name}, held-out")
        curves.plot(epochs, history["accuracy"], color=color, linestyle=":", label=f"{name}, training")
    curves.axhline(0.5, color="grey", linewidth=0.8)
    curves.set(xlabel="epoch", ylabel="accuracy", ylim=(0.4, 1.02), title="The same head on two kinds of vectors")
    curves.legend(loc="center right")
    bars.bar([f"layer {index}" for index in range(len(mix))], mix, color="tab:blue")
    bars.set(ylabel="weight", title="Learned mix")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="demo", help="named model or INI file (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    checkpoint = Checkpoint.open(arguments.config)
    console.print(f"options  {checkpoint.options_file}\nweights  {checkpoint.weight_file}")
    console.print(
        f"biLM     {checkpoint.num_layers} layers of {checkpoint.output_dim}, {checkpoint.fingerprint[:12]}\n"
    )
    tokens, labels = read_sentences(DEMO_SENTENCES, "train")
    held_out_tokens, held_out_labels = read_sentences(DEMO_SENTENCES, "test")

    lookup = keras.layers.StringLookup(mask_token="")
    lookup.adapt(tokens)
    embedding = keras.layers.Embedding(lookup.vocabulary_size(), checkpoint.output_dim, mask_zero=True)
    elmo = ElmoEmbedding(arguments.config, dropout=0.0)  # the head has its own
    steps = arguments.epochs * math.ceil(len(labels) / BATCH_SIZE)
    models = {"ELMo": head_on(elmo, steps=steps), "Embedding": head_on(lookup, embedding, steps=steps)}
    histories = {}
    table = Table("vectors", "training accuracy", "held-out accuracy")
    for name, model in models.items():
        histories[name] = model.fit(
            tokens,
            labels,
            validation_data=(held_out_tokens, held_out_labels),
            epochs=arguments.epochs,
            batch_size=BATCH_SIZE,
            verbose=0,
            callbacks=[ProgressBar(name)],
        ).history
        scores = [
            model.evaluate(inputs, targets, verbose=0, return_dict=True)["accuracy"]
            for inputs, targets in ((tokens, labels), (held_out_tokens, held_out_labels))
        ]
        table.add_row(name, *(f"{score:.3f}" for score in scores))
    console.print(table)

    mix = keras.ops.convert_to_numpy(keras.ops.softmax(elmo.scalar_mix.scalar_parameters))
    weights = ", ".join(f"layer {index}: {weight:.2f}" for index, weight in enumerate(mix))
    console.print(f"learned mix  {weights}; gamma: {float(elmo.scalar_mix.gamma):.2f}")

    saved = arguments.out / "model.keras"
    models["ELMo"].save(saved)
    reloaded = keras.models.load_model(saved)
    new_tokens = tf.ragged.constant([sentence.split() for sentence in NEW_SENTENCES]).to_tensor()
    predictions = reloaded.predict(new_tokens, verbose=0)[:, 0]
    np.testing.assert_allclose(predictions, models["ELMo"].predict(new_tokens, verbose=0)[:, 0], atol=1e-6)
    console.print(f"\nsaved as {saved}, loaded again, and asked about three new sentences:")
    for sentence, probability in zip(NEW_SENTENCES, predictions, strict=True):
        console.print(f"  {'praise' if probability > 0.5 else 'blame':<6} {probability:.2f}  {sentence}")
    plot(arguments.out / "curves.png", histories, mix)
    console.print(f"curves in {arguments.out / 'curves.png'}")


if __name__ == "__main__":
    try:
        main()
    except BridgeError as error:  # its message is written for users
        raise SystemExit(f"error: {error}") from None
