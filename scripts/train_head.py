"""Trains a Keras head on ELMo features, beside the same head on an untrained ELMo and on a plain `Embedding`.

Runs on the embedded demo model and its labelled sentences by default; `--config` names other weights.
"""

import argparse
import csv
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it would greet every run

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from bridge import BridgeError, Checkpoint, ElmoConfig
from bridge.heads import Head, LabelledData, classifier, train
from bridge.heads.plots import plot_histories
from bridge.layers.callbacks import mix_values
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.text.readers import Example

DEMO_SENTENCES = Path(__file__).resolve().parent.parent / "bridge" / "resources" / "demo" / "sentences.tsv"
LABELS = ["blame", "praise"]
BATCH_SIZE = 32
NEW_SENTENCES = (
    "the soup was not bad , and the bread was fresh .",
    "the soup was stale , and the bread was not good .",
    "honestly , the room was hardly warm , while the view was bad .",
)
console, quiet = Console(), Console(quiet=True)


def read_split(split: str) -> list[Example]:
    """The demo's sentences of a split, `train` or `test`."""
    with open(DEMO_SENTENCES, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == split]
    return [Example(row["sentence"].split(), row["label"]) for row in rows]


def contestants(config: str, untrained: ElmoConfig, examples: list[Example]) -> dict[str, dict[str, Any]]:
    """By name, what `classifier` takes: two biLMs of the same size, or layers of a plain embedding of that width."""
    vocabulary = sorted({token for example in examples for token in example.tokens})
    lookup = keras.layers.StringLookup(vocabulary=vocabulary, mask_token="")
    output_dim = Checkpoint.open(config).output_dim
    embedding = keras.layers.Embedding(lookup.vocabulary_size(), output_dim, mask_zero=True)
    return {
        "ELMo": {"config": config},
        "untrained ELMo": {"config": untrained},
        "Embedding": {"vectors": [lookup, embedding]},
    }


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="demo", help="named model or INI file (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="how often all of it is trained (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    checkpoint = Checkpoint.open(arguments.config)
    console.print(f"options  {checkpoint.options_file}\nweights  {checkpoint.weight_file}")
    console.print(
        f"biLM     {checkpoint.num_layers} layers of {checkpoint.output_dim}, {checkpoint.fingerprint[:12]}\n"
    )
    untrained = write_checkpoint(
        arguments.out / "untrained", checkpoint.options, initial_weights(checkpoint.options, seed=0)
    )
    examples = read_split("train")
    data = LabelledData(examples, LABELS)
    # Half of what is held out chooses the best epoch, the other half measures it.
    others = read_split("test")
    dev, held_out = (LabelledData(others[begin::2], LABELS) for begin in (0, 1))

    steps = arguments.epochs * math.ceil(len(data) / BATCH_SIZE)
    first_models: dict[str, keras.Model] = {}
    histories: dict[str, dict[str, list[float]]] = {}
    accuracies: dict[str, list[float]] = defaultdict(list)
    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        for name, made_of in contestants(arguments.config, untrained, examples).items():
            learning_rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
            model = classifier(labels=LABELS, optimizer=keras.optimizers.Adam(learning_rate), **made_of)
            history = train(
                model,
                arguments.out / f"{name.lower().replace(' ', '_')}_{seed}",
                data,
                dev,
                epochs=arguments.epochs,
                batch_size=BATCH_SIZE,
                patience=None,  # the learning rate falls to 0 at the last epoch
                seed=seed,
                overwrite=True,
                console=console if seed == 0 else quiet,
                title=f"{name:<14}",
            )
            score = model.evaluate(held_out.batches(BATCH_SIZE), verbose=0, return_dict=True)["accuracy"]
            accuracies[name].append(score)
            first_models.setdefault(name, model)
            histories.setdefault(name, history)
            if seed:
                console.print(f"{name:<14}  seed {seed}  held-out accuracy {score:.3f}", highlight=False)
    table = Table("vectors", *(f"seed {seed}" for seed in range(arguments.seeds)), "held-out accuracy")
    for name, scores in accuracies.items():
        table.add_row(name, *(f"{score:.3f}" for score in scores), f"{np.mean(scores):.3f}")
    console.print(table)
    elmo = first_models["ELMo"]
    mix = mix_values(elmo.get_layer("elmo").scalar_mix)
    console.print("learned mix  " + ", ".join(f"{name.replace('_', ' ')}: {value:.2f}" for name, value in mix.items()))

    saved = arguments.out / "elmo_0"
    head = Head.load(saved)
    new_sentences = [sentence.split() for sentence in NEW_SENTENCES]
    predictions = head.predict_batch(new_sentences)
    in_memory = Head(elmo, "classify", LABELS).predict_batch(new_sentences)
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
