"""A column of a data frame to a column of features: `embed_column`."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

import numpy as np

from bridge.checks import check_choice, check_integer
from bridge.corpus.batching import MOST_ROWS, batches
from bridge.corpus.sources import sentence_of
from bridge.encoder.arguments import Layers, State
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.linear import Precision
from bridge.errors import InputTypeError, InputValueError
from bridge.features.metadata import Dtype, FeatureMetadata
from bridge.features.parquet import features_column
from bridge.features.sentence_checks import as_stored
from bridge.resources.config import ElmoConfig


def embed_column(
    column: Any,
    config: str | os.PathLike[str] | ElmoConfig | ElmoEncoder | None = None,
    *,
    layers: Layers = "all",
    dtype: Dtype = "float32",
    state: State = "zero",
    precision: Precision = "float32",
    max_tokens: int = 4096,
) -> Any:
    """Embeds every sentence of a column: of pandas, of pyarrow or of NumPy.

    The encoder is made once and kept for later calls of the process, so that this works on batches, too, as in
    `ray.data.Dataset.map_batches`.

    Args:
        column: a pandas Series, a pyarrow Array or ChunkedArray, a NumPy array or a list. A cell is text, which is
            split at whitespace, a list of tokens, or missing, which is a sentence without tokens.
        config: which weights, see `ElmoEncoder`, or an `ElmoEncoder`, which has its own state and precision.
        layers: `"all"`, `"top"` (the last LSTM layer) or `"average"` (the mean of all layers).
        dtype: of the features, `"float32"` or `"float16"`.
        state, precision: see `ElmoEncoder`. Not `"carry"`: the order of batches is not that of the text.
        max_tokens: the most tokens that run together, padding included.

    Returns:
        As many cells, in the same order. pandas: a Series with the same index and name; NumPy and lists: an array of
        objects; in both a cell is an array `(timesteps, num_layers, output_dim)` with `"all"`, else `(timesteps,
        output_dim)`. pyarrow: a column of lists, each the same numbers row by row: `np.asarray(cell).reshape(-1,
        num_layers, output_dim)`.

    Raises:
        InputTypeError, InputValueError: `column` is none of these, or a cell is not a sentence; the message gives its
            row.
        ResourceNotFoundError, CheckpointError, ConfigError: see `Checkpoint.open`.

    Example:
        >>> frame["elmo"] = embed_column(frame["sentence"], "original", layers="top")
        >>> dataset.map_batches(
        ...     lambda batch: batch.append_column("elmo", embed_column(batch["sentence"], "original")),
        ...     batch_format="pyarrow",
        ... )
    """
    check_choice("layers", layers, Layers)
    check_choice("dtype", dtype, Dtype)
    check_integer("max_tokens", max_tokens, minimum=1)
    arrow, pandas = sys.modules.get("pyarrow"), sys.modules.get("pandas")  # a column of theirs has imported them
    is_arrow = arrow is not None and isinstance(column, arrow.Array | arrow.ChunkedArray)
    is_series = pandas is not None and isinstance(column, pandas.Series)
    if not (is_arrow or is_series or isinstance(column, list | tuple) or getattr(column, "ndim", 0) == 1):
        raise InputTypeError(
            "`column` must be a pandas Series, a pyarrow Array, a NumPy array `(rows,)` or a list. Received: "
            f"{column!r:.80} of type {type(column).__name__}. Of a frame or table give one column, such as "
            '`frame["sentence"]`.'
        )
    cells = column.to_pylist() if is_arrow else list(column)
    missing = [False] * len(cells) if not is_series else column.isna().tolist()
    sentences = [
        sentence_of(None if absent else cell, f"`column`, row {row}")
        for row, (cell, absent) in enumerate(zip(cells, missing, strict=True))
    ]
    encoder = config if isinstance(config, ElmoEncoder) else _encoder(ElmoConfig.load(config), state, precision)
    if encoder.state == "carry":
        raise InputValueError(
            '`state` must be "zero" or "warm" for a column: "carry" depends on an order that batches do not have. '
            'Received: "carry". Use `embed_corpus`.'
        )
    if encoder.keep_sentence_boundaries:
        raise InputValueError(
            "`keep_sentence_boundaries` must be False for features, which have a vector a token. Received: an encoder "
            "that keeps them. Make one without."
        )
    metadata = FeatureMetadata.of(encoder, layers=layers, dtype=dtype, tokenization="tokens")
    features = np.empty(len(sentences), dtype=object)
    for row in range(len(sentences)):
        features[row] = np.empty((0, *metadata.token_shape), dtype=dtype)
    for rows in batches([len(sentence.tokens) for sentence in sentences], max_tokens, MOST_ROWS):
        vectors = encoder.embed([sentences[row].tokens for row in rows], layers)
        for row, values in zip(rows, vectors, strict=True):
            features[row] = as_stored(values, metadata, int(row), sentences[row].text)
    if is_series:
        return pandas.Series(features, index=column.index, name=column.name)  # type: ignore[union-attr]
    if is_arrow:
        return features_column(list(features), metadata)
    return features


@functools.lru_cache(maxsize=2)
def _encoder(config: ElmoConfig, state: State, precision: Precision) -> ElmoEncoder:
    return ElmoEncoder(config, state=state, precision=precision)
