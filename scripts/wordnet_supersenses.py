"""Says from a definition which of WordNet's 45 lexicographer files it is from, such as `noun.animal`.

117,659 real sentences, from Debian's package wordnet-base, which is fetched if it is not installed. The layers of a
biLM are computed and stored once; then a mix of them and a small head are trained on 1%, 10% and all of the labels.
Beside it are the same head on the layers of an untrained biLM, and on a plain `Embedding`.

What was computed is kept in the folder, and is used again where weights, sentences and settings are the same.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it would greet every run

import numpy as np
import tensorflow as tf
import wordnet
from rich.console import Console
from rich.table import Table
from supersenses.accuracy import Accuracy, accuracy, markdown, plot
from supersenses.data import parts_of
from supersenses.head import Settings, predictions
from supersenses.vectors import LearnedWords, StoredLayers, Vectors

from bridge import BridgeError, Checkpoint
from bridge.optional import require
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.weights import initial_weights

tf.get_logger().setLevel("ERROR")  # many models are made, on purpose, and it would wonder at that
console = Console(soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="demo", help="named model or INI file (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("out/wordnet"), help="to write to (default: %(default)s)")
    parser.add_argument("--wordnet", type=Path, help="folder of WordNet 3.0 (default: the system's, or the package's)")
    parser.add_argument("--shares", type=int, nargs="+", default=[1, 10, 100], help="percent (default: 1 10 100)")
    parser.add_argument("--runs", type=int, default=3, help="heads on a share of up to 10%% (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="take so many synsets alone, for a quick try")
    options = parser.parse_args(arguments)
    if not all(1 <= share <= 100 for share in options.shares):
        parser.error(f"--shares must be from 1 to 100. Received: {options.shares}.")
    for name in ("runs", "limit"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name} must be at least 1. Received: {value}.")
    require("matplotlib.figure", "heads")  # now, not after all trainings
    begin = time.monotonic()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings()

    checkpoint = Checkpoint.open(options.config)
    weights = initial_weights(checkpoint.options, options.seed)
    untrained = Checkpoint.open(write_checkpoint(folder / "untrained_weights", checkpoint.options, weights))
    parts = parts_of(wordnet.read_synsets(wordnet.wordnet_folder(options.wordnet, folder / "package")), options.limit)
    for split, part in parts.items():
        console.print(f"{split:<6} {len(part):,} definitions, {part.lengths.sum():,} tokens")
    kinds: list[Vectors] = [
        StoredLayers("trained ELMo", checkpoint, parts, folder, console),
        StoredLayers("untrained ELMo", untrained, parts, folder, console),
        LearnedWords("Embedding", parts, checkpoint.output_dim),
    ]

    labels = parts["test"].labels
    results: list[Accuracy] = []
    for vectors in kinds:
        for percent in sorted(set(options.shares)):
            predicted = [
                predictions(vectors, parts, percent, options.seed + run, settings, folder / "predictions", console)
                for run in range(options.runs if percent <= 10 else 1)
            ]
            labelled = len(parts["train"].share(percent))
            results.append(accuracy(vectors.name, percent, labelled, np.stack(predicted), labels))
            console.print(f"{vectors.name:<14} {percent:>3}%  test {results[-1]}")

    most_frequent = float(np.mean(labels == np.bincount(parts["train"].labels).argmax()))
    table = Table("vectors", *(f"{share}%" for share in sorted(set(options.shares))))
    for vectors in kinds:
        table.add_row(vectors.name, *(str(result) for result in results if result.vectors == vectors.name))
    console.print(table)
    console.print(
        f"Accuracy on {len(labels):,} definitions that no training has seen, and its 95% interval (bootstrap over "
        f"definitions and, on up to 10%, over {options.runs} heads). The most frequent label: {most_frequent:.1%}."
    )
    (folder / "accuracies.md").write_text(markdown(results), encoding="utf-8")
    (folder / "accuracies.json").write_text(
        json.dumps([result._asdict() for result in results], indent=2) + "\n", encoding="utf-8"
    )
    plot(folder / "learning_curves.png", results, most_frequent)
    console.print(
        f"{time.monotonic() - begin:.0f} s; {folder / 'accuracies.md'}, accuracies.json and learning_curves.png"
    )


if __name__ == "__main__":
    try:
        main()
    except BridgeError as error:  # its message is written for users
        raise SystemExit(f"error: {error}") from None
