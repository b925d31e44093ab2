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
import numpy as np
from rich.console import Console
from rich.table import Table

from bridge import BridgeError, Checkpoint
from bridge.heads import Head, LabelledData, classifier, train
from bridge.heads.plots import plot_histories
from bridge.layers.callbacks import mix_values
from bridge.text.readers import Example

DEMO_SENTENCES = Path(__file__).resolve().parent.parent / "bridge" / "resources" / "demo" / "sentences.tsv"
LABELS = ["blame", "praise"]
BATCH_SIZE = 32
NEW_SENTENCES = (
    "the soup was not bad , and the bread was fresh .",
    "the soup was stale , and the bread was not good .",
    "honestly , the room was hardly warm , while the view was bad .",
)
console = Console()


def read_split(split: str) -> list[Example]:
    """The demo's sentences of a split, `train` or `test`."""
    with open(DEMO_SENTENCES, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == split]
    return [Example(row["sentence"].split(), row["label"]) for row in rows]


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
    examples = read_split("train")
    data = LabelledData(examples, LABELS)
    # Half of what is held out chooses the best epoch, the other half measures it.
    others = read_split("test")
    dev, held_out = (LabelledData(others[begin::2], LABELS) for begin in (0, 1))

    def optimizer() -> keras.optimizers.Optimizer:
        steps = arguments.epochs * math.ceil(len(data) / BATCH_SIZE)
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, steps))

    vocabulary = sorted({token for example in examples for token in example.tokens})
    lookup = keras.layers.StringLookup(vocabulary=vocabulary, mask_token="")
    embedding = keras.layers.Embedding(lookup.vocabulary_size(), checkpoint.output_dim, mask_zero=True)
    models = {
        "ELMo": classifier(arguments.config, labels=LABELS, optimizer=optimizer()),
        "Embedding": classifier(vectors=[lookup, embedding], labels=LABELS, optimizer=optimizer()),
    }
    histories = {}
    table = Table("vectors", "training accuracy", "held-out accuracy")
    for name, model in models.items():
        histories[name] = train(
            model,
            arguments.out / name.lower(),
            data,
            dev,
            epochs=arguments.epochs,
            batch_size=BATCH_SIZE,
            patience=None,  # the learning rate falls to 0 at the last epoch
            seed=arguments.seed,
            overwrite=True,
            console=console,
            title=f"{name:<9}",
        )
        scores = [
            model.evaluate(part.batches(BATCH_SIZE), verbose=0, return_dict=True)["accuracy"]
            for part in (data, held_out)
        ]
        table.add_row(name, *(f"{score:.3f}" for score in scores))
    console.print(table)
    mix = mix_values(models["ELMo"].get_layer("elmo").scalar_mix)
    console.print("learned mix  " + ", ".join(f"{name.replace('_', ' ')}: {value:.2f}" for name, value in mix.items()))

    saved = arguments.out / "elmo"
    head = Head.load(saved)
    new_sentences = [sentence.split() for sentence in NEW_SENTENCES]
    predictions = head.predict_batch(new_sentences)
    in_memory = Head(models["ELMo"], "classify", LABELS).predict_batch(new_sentences)
    console.print(f"\nsaved in {saved}, loaded again, and asked about three new sentences:")
    for sentence, prediction, wanted in zip(NEW_SENTENCES, predictions, in_memory, strict=True):
        np.testing.assert_allclose(prediction.probabilities, wanted.probabilities, atol=1e-6)
        console.print(f"  {prediction.target:<6} {prediction.probabilities.max():.2f}  {sentence}")
    plot_histories(arguments.out / "curves.png", histories, "val_accuracy")
    console.print(f"curves in {arguments.out / 'curves.png'}")


if __name__ == "__main__":
    try:
        main()
    except BridgeError as error:  # its message is written for users
        raise SystemExit(f"error: {error}") from None
