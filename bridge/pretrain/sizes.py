"""The sizes of published biLMs, and of small ones: `options_of_size`."""

from __future__ import annotations

from typing import Literal, NamedTuple

from bridge.checks import check_choice
from bridge.resources.options import ElmoOptions
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN

Size = Literal["tiny", "demo", "small", "medium", "original"]

FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


class _Numbers(NamedTuple):
    dim: int
    projection_dim: int
    n_highway: int = 1
    filters: tuple[tuple[int, int], ...] = FILTERS


SIZES = {
    "tiny": _Numbers(32, 16, filters=FILTERS[:2]),  # nothing but tests learn from it
    "demo": _Numbers(256, 64, filters=((1, 16), (2, 32), (3, 64), (4, 64))),
    "small": _Numbers(1024, 128),
    "medium": _Numbers(2048, 256),
    "original": _Numbers(4096, 512, n_highway=2),
}


def options_of_size(size: Size) -> ElmoOptions:
    """The options of a biLM of that size.

    Args:
        size: `"small"`, `"medium"` and `"original"` are those of the published models, `"demo"` is that of the model
            that comes with the package, `"tiny"` is for trying things out.
    """
    check_choice("size", size, Size)
    numbers = SIZES[size]
    lstm = {"dim": numbers.dim, "projection_dim": numbers.projection_dim, "n_layers": 2}
    clips = {"cell_clip": 3.0, "proj_clip": 3.0, "use_skip_connections": True}
    cnn = {"activation": "relu", "embedding": {"dim": 16}, "filters": numbers.filters, "n_highway": numbers.n_highway}
    characters = {"max_characters_per_token": MAX_CHARACTERS_PER_TOKEN, "n_characters": 262}
    return ElmoOptions.model_validate({"lstm": lstm | clips, "char_cnn": cnn | characters})
