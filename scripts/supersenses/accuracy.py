"""Accuracies with their intervals, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bridge.optional import require
from bridge.whole_file import write_file

REPLICATES = 2_000


class Accuracy(NamedTuple):
    """Of one kind of vectors on one share of the labels.

    Attributes:
        vectors: their name.
        percent: of the labels.
        labelled: how many sentences that is.
        mean: share of the test sentences that are right, the mean of all runs.
        low, high: its 95% interval.
        runs: accuracy of each run.
    """

    vectors: str
    percent: int
    labelled: int
    mean: float
    low: float
    high: float
    runs: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.mean:.1%} ({self.low:.1%} to {self.high:.1%})"


def interval(correct: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95% interval of a mean, by a bootstrap: runs and test sentences are both drawn anew, with replacement.

    Args:
        correct: bool `(runs, sentences)`.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    runs, sentences = correct.shape
    means = np.empty(REPLICATES)
    for number in range(REPLICATES):
        # How often each run and each sentence is drawn.
        of_runs = np.bincount(generator.integers(runs, size=runs), minlength=runs)
        of_sentences = np.bincount(generator.integers(sentences, size=sentences), minlength=sentences)
        means[number] = of_runs @ correct @ of_sentences / (runs * sentences)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def accuracy(vectors: str, percent: int, labelled: int, predicted: np.ndarray, labels: np.ndarray) -> Accuracy:
    """Of predictions `(runs, sentences)` for labels `(sentences,)`."""
    correct = predicted == labels
    low, high = interval(correct, seed=0)
    runs = tuple(correct.mean(axis=1).tolist())
    return Accuracy(vectors, percent, labelled, float(correct.mean()), low, high, runs)


def markdown(accuracies: Sequence[Accuracy]) -> str:
    """A row for each kind of vectors, a column for each share."""
    shares = {result.percent: result.labelled for result in accuracies}
    lines = [
        "| vectors | " + " | ".join(f"{percent}%, {count:,} labels" for percent, count in shares.items()) + " |",
        "|---|" + "---|" * len(shares),
    ]
    for name in dict.fromkeys(result.vectors for result in accuracies):
        cells = (str(result) for result in accuracies if result.vectors == name)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(path: Path, accuracies: Sequence[Accuracy], most_frequent: float) -> None:
    """Draws the learning curves into a PNG.

    Args:
        path: the file to write.
        accuracies: those of every kind of vectors and share.
        most_frequent: the accuracy of always saying the most frequent label.
    """
    # Without pyplot: no screen is needed.
    figure = require("matplotlib.figure", "heads").Figure(figsize=(6.5, 5), layout="constrained", dpi=120)
    axis = figure.subplots()
    names = list(dict.fromkeys(result.vectors for result in accuracies))
    for number, name in enumerate(names):
        results = [result for result in accuracies if result.vectors == name]
        # Side by side, so that bars do not cover each other.
        places = [result.labelled * 1.05 ** (number - (len(names) - 1) / 2) for result in results]
        bars = [
            [result.mean - result.low for result in results],
            [result.high - result.mean for result in results],
        ]
        axis.errorbar(
            places, [result.mean for result in results], bars, marker="os^D"[number % 4], capsize=4, label=name
        )
    axis.axhline(most_frequent, color="0.5", linestyle=":", label="most frequent label")
    axis.set_xscale("log")
    shares = {result.labelled: result.percent for result in accuracies}
    axis.set_xticks(list(shares), [f"{count:,}\n({percent}%)" for count, percent in shares.items()])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_ylim(bottom=0)
    axis.set(
        xlabel="labelled definitions",
        ylabel="accuracy on test definitions (bars: 95% interval)",
        title="Which of WordNet's 45 lexicographer files is a definition from?",
    )
    axis.grid(axis="y", color="0.9")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    write_file(path, lambda partial: figure.savefig(partial, format="png"))
