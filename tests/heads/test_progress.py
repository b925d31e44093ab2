"""A bar on a terminal, plain lines in a log, and a picture."""

import io
import warnings
from pathlib import Path

import pytest
from heads.examples import LABELS, labelled, plain_vectors
from rich.console import Console

from bridge.heads import LabelledData, classifier, train
from bridge.heads.plots import plot_histories


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_training_prints(tmp_path: Path, terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=60)
    data = LabelledData(labelled(6, 0), LABELS)
    model = classifier(labels=LABELS, vectors=plain_vectors(), units=2)
    train(model, tmp_path / "run", data, data, epochs=2, batch_size=2, console=console, title="plain")
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("\x1b[" in printed) is terminal  # it moves the cursor, or it does not
    assert ("3/3" in printed) is terminal
    lines = [line for line in printed.splitlines() if "val_accuracy" in line]
    assert len(lines) == 2
    assert "plain  epoch 2/2  accuracy " in lines[-1]
    if not terminal:
        assert printed.splitlines() == lines


def test_plots_of_all_kinds_of_histories(tmp_path: Path) -> None:
    losses = {"loss": [1.0, 0.5], "accuracy": [0.5, 1.0]}
    held_out = {**losses, "val_loss": [1.0, 0.7], "val_accuracy": [0.4, 0.9]}
    mix = {f"elmo/scalar_mix/layer_{index}": [0.3, 0.2] for index in range(3)}
    for histories, monitor in (({"": losses}, "loss"), ({"a": held_out, "b": {**held_out, **mix}}, "val_accuracy")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plot_histories(tmp_path / "curves.png", histories, monitor)
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
