"""MirroredStrategy on two virtual CPUs, in a process of its own: replicas, one of them with an empty batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from layers.harness import assert_close

TRAIN = """
import contextlib, json, sys
import keras, numpy, tensorflow
from bridge import ElmoEmbedding, ScalarMix, batch_to_ids
from bridge.layers.fine_tuning import _Passes

cpu = tensorflow.config.list_physical_devices("CPU")[0]
tensorflow.config.set_logical_device_configuration(cpu, [tensorflow.config.LogicalDeviceConfiguration()] * 2)
from layers.tuning import live_graphs, regressor, tiny_model  # starts TensorFlow
strategy = tensorflow.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
config = tiny_model(sys.argv[1])
runs = []
run = _Passes._run
_Passes._run = lambda self, arguments, **mode: runs.append(mode["differentiable"]) or run(self, arguments, **mode)

def trained(requires_grad, scope):
    x = batch_to_ids([["The", "cat", "sat"], ["Hello"], ["a", "b"], ["x"] * 4, ["dog"]])
    runs.clear()
    with scope:
        keras.utils.set_random_seed(0)
        layer = ElmoEmbedding(config, requires_grad=requires_grad, dropout=0.0)
        model = regressor(layer)
        # A mean would count replicas alike, whatever their rows.
        model.compile(keras.optimizers.SGD(2.0**-7), keras.losses.MeanSquaredError(reduction="sum"))
    model.fit(x, numpy.linspace(-1, 1, 5)[:, None], batch_size=4, epochs=2, shuffle=False, verbose=0)
    counts = [len(runs), sum(runs), live_graphs(layer) if requires_grad else 0]
    predicted = model.predict(x, batch_size=4, verbose=0)
    return {"values": [array.tolist() for array in (*model.get_weights(), predicted)], "counts": counts}

results = {}
for requires_grad in (False, True):
    results[f"{requires_grad}, mirrored"] = trained(requires_grad, strategy.scope())
    results[f"{requires_grad}, alone"] = trained(requires_grad, contextlib.nullcontext())
with open(sys.argv[2], "w") as file:
    json.dump(results, file)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """5 rows in batches of 4: the second batch is one row, and nothing for the second replica."""
    folder = Path(tmp_path_factory.mktemp("strategies"))
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder), str(folder / "results.json")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("requires_grad", [False, True])
def test_two_replicas_train_and_predict_as_one(requires_grad: bool, results: dict[str, Any]) -> None:
    mirrored, alone = (results[f"{requires_grad}, {how}"]["values"] for how in ("mirrored", "alone"))
    for one, other in zip(mirrored, alone, strict=True):
        assert_close(one, other, 1e-5)


@pytest.mark.slow
def test_graphs_live_until_the_gradients_and_no_longer(results: dict[str, Any]) -> None:
    """On the second device too: 4 steps of 2 replicas run forward 8 times, each once."""
    assert results["True, mirrored"]["counts"] == [8, 8, 0]
    assert results["True, alone"]["counts"] == [4, 4, 0]
