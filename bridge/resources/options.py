"""`options.json` as a typed, validated schema.

The format is that of the published models (bilm-tf writes it, AllenNLP reads it); keys that only training
uses are allowed and ignored.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from bridge.errors import CheckpointError
from bridge.resources.lookalikes import JSON, UNKNOWN, lookalike
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN
from bridge.untrusted_hdf5 import MAGIC

# The published ones have less than a kilobyte.
MAX_BYTES = 1 << 20
MAX_LISTED = 20

# Bounded: every layer has its own datasets, and a slip of the keyboard must not list a billion as missing.
MAX_LAYERS = 100
PositiveInt = Annotated[int, Field(gt=0, le=2**31 - 1)]
Clip = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


def _must(rule: str, holds: Callable[[Any], bool]) -> AfterValidator:
    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"must {rule}")
        return value

    return AfterValidator(check)


class _Section(BaseModel):
    # Strict: a JSON string "512" or a float 2.0 where an int belongs is a broken file, not a spelling.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class LstmOptions(_Section):
    """The biLSTM: `dim` is the cell size, `projection_dim` the width of each direction's output."""

    dim: PositiveInt
    projection_dim: PositiveInt
    n_layers: Annotated[int, Field(gt=0, le=MAX_LAYERS)]
    cell_clip: Clip
    proj_clip: Clip
    use_skip_connections: Annotated[
        bool, _must("be true: AllenNLP runs only biLMs with residual connections", lambda value: value)
    ]


class EmbeddingOptions(_Section):
    """The character embedding."""

    dim: PositiveInt


class CharCnnOptions(_Section):
    """The character CNN: `filters` lists (width, number of filters)."""

    activation: Literal["relu", "tanh"]
    embedding: EmbeddingOptions
    filters: Annotated[
        tuple[tuple[Annotated[int, Field(gt=0, le=MAX_CHARACTERS_PER_TOKEN)], PositiveInt], ...],
        Field(max_length=MAX_LAYERS),
        _must("list at least one [width, number of filters]", bool),
    ]
    n_highway: Annotated[int, Field(ge=0, le=MAX_LAYERS)]
    # Not `Literal`, which takes 50.0 for 50; AllenNLP then fails on the float.
    max_characters_per_token: Annotated[int, _must("be 50", lambda value: value == MAX_CHARACTERS_PER_TOKEN)]
    # 262 counts the id 0 of "no token", 261 (a training file) does not: both have 261 rows of `char_embed`.
    n_characters: Annotated[int, _must("be 261 or 262", lambda value: value in (261, 262))]

    @property
    def n_filters(self) -> int:
        """Width of a token's vector before the projection."""
        return sum(number for _, number in self.filters)


class ElmoOptions(_Section):
    """What `options.json` says of a biLM."""

    lstm: LstmOptions
    char_cnn: CharCnnOptions

    @property
    def num_layers(self) -> int:
        """Number of biLM layers that a mix weighs: the token layer and every LSTM layer."""
        return self.lstm.n_layers + 1

    @property
    def output_dim(self) -> int:
        """Width of each layer: both directions side by side."""
        return 2 * self.lstm.projection_dim


def read_options(path: Path, described: str) -> ElmoOptions:
    """Reads and validates an options file.

    Args:
        path: a local file.
        described: how error messages call the file: its path and where that path came from.

    Raises:
        CheckpointError: it is not JSON (with line and column), keys are missing or wrong (all of them are listed) or
            there twice, or it is larger than any options file.
    """
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if content.startswith(MAGIC):
        raise CheckpointError(
            f"`options_file` must be a JSON text file. Received: {described}, which is an HDF5 file. "
            "Are `options_file` and `weight_file` swapped?"
        )
    if len(content) > MAX_BYTES:
        raise CheckpointError(_refusal(described, [f"more than {MAX_BYTES} bytes, which no options file has"]))
    kind = lookalike(path)
    return parse_options(content, described, "" if kind in (JSON, UNKNOWN) else f" It looks like {kind}")


def parse_options(content: bytes, described: str, remedy: str = "") -> ElmoOptions:
    """Validates the JSON of an options file; `remedy` ends the message where it is no JSON at all.

    Raises:
        CheckpointError: see `read_options`.
    """
    try:
        options = ElmoOptions.model_validate_json(content)
        # Once more, for what the first parser takes and others read otherwise.
        json.loads(content, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except ValidationError as error:
        problems = [_problem(detail, content) for detail in error.errors()]
        raise CheckpointError(_refusal(described, problems) + remedy) from error
    except ValueError as error:
        raise CheckpointError(_refusal(described, [str(error)])) from error
    return options


def _refusal(described: str, problems: list[str]) -> str:
    listed = "\n".join(f"  - {problem}" for problem in problems[:MAX_LISTED])
    more = f"\n  - and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
    return (
        f"`options_file` must hold the options of an ELMo biLM. Received: {described}, in which:\n{listed}{more}\n"
        "Use the options file that came with the weights."
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = Counter(key for key, _ in pairs)
    if len(keys) < len(pairs):
        twice = keys.most_common(1)[0][0]
        raise ValueError(f"{twice!r:.80}: is there twice, and parsers differ in which one they take")
    return dict(pairs)


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant}: JSON has no such number")


def _problem(detail: ErrorDetails, content: bytes) -> str:
    """One pydantic error, such as `lstm.dim: Input should be a valid integer (received '12')`."""
    if detail["type"] == "json_invalid":  # how it begins tells an HTML page, an empty file or UTF-16 apart
        return f"{detail['msg']}. The file begins with {content[:40]!r}"
    where = ".".join(str(part) for part in detail["loc"]) or "the whole file"
    if detail["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {detail['msg'].removeprefix('Value error, ')} (received {detail['input']!r:.80})"
