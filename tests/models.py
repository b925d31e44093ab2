"""Small random models in the published file layout."""

from pathlib import Path
from typing import Any

from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions


def options_dict(
    *,
    dim: int = 10,
    projection_dim: int = 6,
    n_layers: int = 2,
    clip: float | None = 3.0,
    activation: str = "relu",
    n_highway: int = 1,
    filters: tuple[tuple[int, int], ...] = ((1, 4), (2, 5), (3, 6)),
    char_dim: int = 5,
    n_characters: int = 262,
) -> dict[str, Any]:
    """The contents of an options.json."""
    return {
        "lstm": {
            "dim": dim,
            "projection_dim": projection_dim,
            "n_layers": n_layers,
            "cell_clip": clip,
            "proj_clip": clip,
            "use_skip_connections": True,
        },
        "char_cnn": {
            "activation": activation,
            "embedding": {"dim": char_dim},
            "filters": filters,
            "n_highway": n_highway,
            "max_characters_per_token": 50,
            "n_characters": n_characters,
        },
    }


def random_model(folder: Path, *, seed: int = 0, **options: Any) -> ElmoConfig:
    """Writes a random model into `folder`; `options` are those of `options_dict`."""
    validated = ElmoOptions.model_validate(options_dict(**options))
    return write_checkpoint(folder, validated, initial_weights(validated, seed))
