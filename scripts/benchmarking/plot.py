"""The benchmark as a picture."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmarking.speed import Record


def plot_speed(path: Path, records: list[Record], title: str) -> None:
    """Draws tokens per second, a panel a batch size and a bar a contestant, into a PNG.

    Bars are medians, and the lines on them reach from the slowest to the fastest turn.
    """
    records = [record for record in records if record["what"] == "vectors"]
    names = list(dict.fromkeys(record["contestant"] for record in records))
    sizes = list(dict.fromkeys(record["batch_size"] for record in records))
    # Without pyplot: no screen is needed.
    figure_class = importlib.import_module("matplotlib.figure").Figure
    width = max(6.5, len(sizes) * (1 + 0.8 * len(names)))
    figure = figure_class(figsize=(width, 4.5), layout="constrained", dpi=120)
    axes = figure.subplots(1, len(sizes), squeeze=False)[0]
    for axis, size in zip(axes, sizes, strict=True):
        for number, name in enumerate(names):
            record = next(record for record in records if (record["batch_size"], record["contestant"]) == (size, name))
            rates, median = record["tokens_per_second"], record["medians"]["tokens_per_second"]
            spread = [[median - min(rates)], [max(rates) - median]]
            axis.bar(number, median, yerr=spread, capsize=3, ecolor="0.4", color=f"C{number}", label=name)
            text = f"{median:,.0f}\n{record['medians']['ratios']:.1f}x"
            axis.annotate(text, (number, max(rates)), (0, 3), textcoords="offset points", ha="center", fontsize="small")
        axis.set(title=f"batch size {size}", xticks=[])
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.margins(y=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("tokens per second")
    figure.suptitle(title)
    columns = min(3, len(names))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(path, format="png")
