"""`LanguageModel`: every gradient is what finite differences of the float64 reference's loss say."""

from pathlib import Path

import numpy as np
import pytest
from pretrain.language_models import (
    CASES,
    gradients_by_dataset,
    model_of,
    random_batch,
    random_state,
    reference_step,
    softmax_arrays,
    softmax_parameters,
)
from pretrain.reference_lm import Kinks, token_vectors

STEP = 1e-5
RUNS = [*((name, "full") for name in CASES), ("clipped", "adaptive"), ("one layer, tanh", "adaptive")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "softmax"), RUNS)
def test_finite_differences(name: str, softmax: str, tmp_path: Path) -> None:
    """Of every parameter: along a random direction, which each of its values is part of, and at two single values."""
    model, options, weights = model_of(name, softmax=softmax)
    batch, state = random_batch(missing=0.2), random_state(options, 3)
    model(batch, state)[0].sum().backward()
    gradients = gradients_by_dataset(model.bilm, options, tmp_path)
    for dataset, parameter in softmax_parameters(model).items():
        assert parameter.grad is not None
        gradients[dataset] = parameter.grad.numpy()
    of_softmax = softmax_arrays(model)
    values = {dataset: array.astype(np.float64) for dataset, array in weights.items()} | of_softmax
    assert gradients.keys() == values.keys()
    tokens = token_vectors(options.model_dump(), values, batch.char_ids)

    # Across a limit, a difference is no derivative.
    kinks = Kinks()
    reference_step(options, weights, of_softmax, batch, state, tokens, kinks)
    assert kinks.distance > 1e-4
    for limit in ("cell_clip", "proj_clip"):
        if limit in CASES[name]:
            assert (kinks.cut[limit] > 10) == bool(CASES[name][limit])

    def loss(dataset: str, array: np.ndarray) -> float:
        changed = {**values, dataset: array}
        of_tokens = None if dataset.startswith(("char_embed", "CNN")) else tokens
        bilm, predicting = ({key: changed[key] for key in part} for part in (weights, of_softmax))
        return float(reference_step(options, bilm, predicting, batch, state, of_tokens).losses.sum())

    generator = np.random.default_rng(0)
    for dataset, array in values.items():
        direction = generator.standard_normal(array.shape)
        directions = [direction / np.linalg.norm(direction)]
        used = np.flatnonzero(gradients[dataset])  # the vectors of most characters are not
        for place in generator.choice(used, min(2, len(used)), replace=False):
            directions.append(np.eye(1, array.size, place).reshape(array.shape))
        for direction in directions:
            ahead, behind = (loss(dataset, array + step * direction) for step in (STEP, -STEP))
            received = float((gradients[dataset] * direction).sum())
            assert received == pytest.approx((ahead - behind) / (2 * STEP), rel=1e-6, abs=1e-9), dataset
