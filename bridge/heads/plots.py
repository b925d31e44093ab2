"""A training's history as a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.optional import require
from bridge.whole_file import write_file

History = Mapping[str, Sequence[float]]


def plot_histories(path: Path, histories: Mapping[str, History], monitor: str) -> None:
    """Draws losses, the monitored metric and the learned mix, by epoch, into a PNG.

    Args:
        path: the file to write.
        histories: by name, what `train` returns; one or several, to be compared.
        monitor: the metric that was monitored, such as `val_f1`.
    """
    known = {name for history in histories.values() for name in history}
    metric = next((name for name in (monitor.removeprefix("val_"), "accuracy") if name in known - {"loss"}), "loss")
    mixed = {name: history for name, history in histories.items() if _layers(history)}
    panels = ["loss", *([metric] if metric != "loss" else []), *(["mix"] if mixed else [])]
    # Without pyplot: no screen is needed, and the user's own backend is left alone.
    figure = require("matplotlib.figure", "heads").Figure(figsize=(4.5 * len(panels), 4), layout="constrained", dpi=120)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        epochs = max(len(history["loss"]) for history in histories.values())
        axis.set(xlabel="epoch", xlim=(0.5, epochs + 0.5), title={"mix": "learned mix"}.get(panel, panel))
        axis.xaxis.get_major_locator().set_params(integer=True)
        if panel == "mix":
            _plot_mix(axis, mixed)
            continue
        for number, (name, history) in enumerate(histories.items()):
            prefix = f"{name}, " if len(histories) > 1 else ""
            for key, style, label in ((f"val_{panel}", "-", "held-out"), (panel, ":", "training")):
                if key in history:
                    axis.plot(
                        _epochs(history[key]), history[key], "." + style, color=f"C{number}", label=prefix + label
                    )
        axis.set_ylim(bottom=0, top=None if panel == "loss" else 1.02)
        axis.legend()
    write_file(path, lambda partial: figure.savefig(partial, format="png"))


def _plot_mix(axis: Any, histories: Mapping[str, History]) -> None:
    for number, (name, history) in enumerate(histories.items()):
        prefix = f"{name}, " if len(histories) > 1 else ""
        for index, key in enumerate(_layers(history)):
            axis.plot(
                _epochs(history[key]),
                history[key],
                (".-", ".--", ".:")[number % 3],
                color=f"C{index + 2}",
                label=f"{prefix}layer {index}",
            )
    axis.set_ylim(0, 1.02)
    axis.set_ylabel("weight")
    axis.legend()


def _layers(history: History) -> list[str]:
    """The keys of the first mix's layers, as `ScalarMixLogger` names them."""
    keys = [key for key in history if re.search(r"/layer_\d+$", key)]
    return [key for key in keys if key.rpartition("/")[0] == keys[0].rpartition("/")[0]]


def _epochs(values: Sequence[float]) -> range:
    return range(1, len(values) + 1)
