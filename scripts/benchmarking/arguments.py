"""The benchmark's command line, checked."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from bridge.encoder.linear import Precision
from bridge.pretrain.language_model import Precision as TrainingPrecision
from bridge.pretrain.sizes import Size

WEIGHTS = {"model", "config"}
COMPARING = WEIGHTS | {"engine", "precision", "batch_size", "sentence_length", "text", "seed", "json"}
# Which options each kind of run looks at: any other one is an error.
KINDS = {
    "speed": COMPARING | {"turns", "warm_up", "token_cache_bytes", "keras", "plot"},
    "agreement": COMPARING | {"sentences"},
    "peak_memory": COMPARING | {"sentences"},
    "memory": WEIGHTS,
    "corpus": WEIGHTS | {"precision", "seed", "json"},
    "pretrain": WEIGHTS | {"precision", "text", "seed", "turns", "max_vocab", "json"},
}
DEFAULTS: dict[str, Any] = {
    "engine": ["fused"],
    "precision": ["float32"],
    "batch_size": [32],
    "seed": 0,
    "turns": 5,
    "warm_up": 500,
    "sentences": 100,
    "max_vocab": None,
}


def whole_number(minimum: int) -> Any:
    """An argument's type: an integer of at least `minimum`."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"must be an integer of at least {minimum}. Received: {text!r}.")
        return int(text)

    return parse


def output_file(text: str) -> Path:
    """An argument's type: a file that can be written at the end of a long run."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file in a folder that is there. Received: {text!r}.")
    return path


def _option(name: str) -> str:
    return name.replace("_", "-")


def parse(description: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked against each other; `kind` says what to run."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=description, formatter_class=raw, argument_default=argparse.SUPPRESS, allow_abbrev=False
    )
    add, count = parser.add_argument, whole_number(1)
    weights, kind = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    weights.add_argument("--model", choices=get_args(Size), help="random weights of that size (default: small)")
    weights.add_argument("--config", help="your own weights: a named model or an INI file")
    add("--engine", nargs="+", choices=["fused", "allennlp"], help="default: fused")
    add(
        "--precision",
        nargs="+",
        choices=get_args(Precision),
        help="of the fused engine, or of training (default: float32)",
    )
    add("--batch-size", nargs="+", type=count, help="default: 32; several only for speed")
    add("--sentence-length", type=count, metavar="N", help="sentences of N tokens, one a batch")
    add("--text", type=Path, metavar="FILE", help="a sentence a line, tokens between spaces (or gzipped)")
    add("--seed", type=whole_number(0), help="of the made-up text (default: 0)")
    add("--turns", type=count, help="default: 5")
    add("--warm-up", type=count, metavar="N", help="sentences read before the first turn (default: 500)")
    add("--token-cache-bytes", type=whole_number(0), metavar="N", help="see ElmoEncoder; 0 for no cache")
    add("--keras", action="store_true", help="time ElmoEmbedding in predict, too")
    add("--sentences", type=count, metavar="N", help="of --agreement and --peak-memory (default: 100)")
    add("--max-vocab", type=whole_number(4), metavar="N", help="words that --pretrain predicts (default: all)")
    add("--json", type=output_file, metavar="FILE", help="write all figures")
    add("--plot", type=output_file, metavar="FILE.png", help="draw tokens per second")
    kind.add_argument("--agreement", action="store_true", help="compare vectors with AllenNLP's, and time nothing")
    kind.add_argument("--peak-memory", action="store_true", help="measure peak memory, in fresh processes")
    kind.add_argument("--memory", type=count, metavar="CALLS", help="measure memory over so many calls (try 2000)")
    kind.add_argument("--corpus", type=count, metavar="LINES", help="embed so many lines into a file (try 2000)")
    kind.add_argument("--pretrain", action="store_true", help="train, a step a turn, and measure memory")
    given = vars(parser.parse_args(argv))

    chosen = next((name for name in KINDS if name in given), "speed")
    for name in given:
        if name != chosen and name not in KINDS[chosen]:
            remedy = f"with --{_option(chosen)}" if chosen != "speed" else "without --agreement or --peak-memory"
            parser.error(f"--{_option(name)} means nothing {remedy}: leave it out.")
    for name in ("engine", "precision", "batch_size"):
        if name in given:
            given[name] = list(dict.fromkeys(given[name]))
    if "sentence_length" in given and given.setdefault("batch_size", [1]) != [1]:
        parser.error("--batch-size must be 1 with --sentence-length, which times one sentence: leave it out.")
    if "config" not in given:
        given.setdefault("model", "small")
    arguments = argparse.Namespace(**{**DEFAULTS, **given}, kind=chosen)
    if chosen != "speed" and len(arguments.batch_size) > 1:
        parser.error(f"--batch-size must be one number but for speed. Received: {arguments.batch_size}.")
    if "allennlp" in arguments.engine and "float32" not in arguments.precision:
        parser.error("--precision must include float32 with --engine allennlp, which computes in that alone.")
    if chosen == "pretrain" and not set(arguments.precision) <= set(get_args(TrainingPrecision)):
        parser.error("--precision must be float32 or bfloat16 with --pretrain.")
    if "keras" in given and "token_cache_bytes" in given:
        parser.error("--token-cache-bytes must be left out with --keras: ElmoEmbedding has no such argument.")
    if "plot" in given and arguments.plot.suffix.lower() != ".png":
        parser.error(f"--plot must be a .png file. Received: {arguments.plot}.")
    if "plot" in given and importlib.util.find_spec("matplotlib") is None:
        parser.error('--plot needs matplotlib: pip install "elmo-keras-bridge[heads]".')
    return arguments
