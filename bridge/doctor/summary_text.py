"""A summary of a checkpoint as text: `summary_lines`."""

from __future__ import annotations

from bridge.doctor.checkpoint_summary import CheckpointSummary
from bridge.text.characters import MAX_BYTES_PER_TOKEN


def summary_lines(summary: CheckpointSummary) -> list[tuple[str, str]]:
    """A name and a value for each line."""
    lines = [("config", summary.config)]
    for name, file in (("options_file", summary.options_file), ("weight_file", summary.weight_file)):
        if file is not None:
            lines += [(name, f"{file.path} ({_size(file.bytes)})"), ("  sha256", file.sha256)]
    if summary.fingerprint:
        lines.append(("fingerprint", summary.fingerprint))
    options = summary.options
    if options is not None and summary.parameters is not None and summary.memory is not None:
        lstm, cnn = options.lstm, options.char_cnn
        filters = ", ".join(f"{number} of width {width}" for width, number in cnn.filters)
        parts = ", ".join(
            f"{part.replace('_', ' ')} {number:,}" for part, number in summary.parameters.items() if part != "total"
        )
        lines += [
            ("layers", f"{summary.num_layers} of width {summary.output_dim}: the token layer and {lstm.n_layers} LSTM"),
            ("lstm", f"{lstm.dim} cells, projection {lstm.projection_dim} each way"),
            ("  clips", f"cell {lstm.cell_clip}, projection {lstm.proj_clip}"),
            ("character cnn", f"{cnn.n_filters} filters ({filters}), {cnn.activation}, {cnn.n_highway} highway"),
            (
                "characters",
                f"{summary.character_rows} rows of {cnn.embedding.dim}: 256 bytes and 5 special characters "
                f"(n_characters is {cnn.n_characters}); a token is at most {MAX_BYTES_PER_TOKEN} bytes",
            ),
            ("parameters", f"{summary.parameters['total']:,}: {parts}"),
        ]
        if summary.weights_dtypes is not None:
            lines.append(("stored as", ", ".join(summary.weights_dtypes)))
        lines.append(
            (
                "memory",
                f"{_size(summary.memory.float32_weights)} of weights in float32, {_size(summary.memory.half_weights)} "
                f"with bfloat16 or float16 LSTMs; {summary.memory.vectors_per_token:,} bytes a token of a batch for "
                "the vectors of all layers",
            )
        )
    return lines


def _size(number: int) -> str:
    return f"{number:,} bytes" if number < 10_000 else f"{number / 1e6:,.1f} MB"
