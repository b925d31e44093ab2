"""Trains the embedded demo model on WordNet's definitions and examples, and writes it with its model card.

The text comes from Debian's package wordnet-base and stays where it is. A tenth of the synsets is held out to measure
the model on, and another tenth is never looked at, so that scripts/wordnet_supersenses.py can test on it. The same
versions give the same weights on the same kind of processor and as many threads.

Beside the weights go the numbers that `elmo-bridge doctor` expects of them, computed by the tests' NumPy ELMo in
float64, and compared with AllenNLP's before they are written. `--reference` writes them alone, for the model that is
there.
"""

import argparse
import csv
import json
import math
import platform
import shutil
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import wordnet
from rich.console import Console

from bridge import BridgeError, Checkpoint, ElmoConfig, ElmoEncoder
from bridge.pretrain import BilmReport, train_bilm
from bridge.pretrain.sizes import options_of_size
from bridge.resources.checkpoint import expected_datasets

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "bridge" / "resources" / "demo"
TRAINING: dict[str, Any] = {
    "min_count": 2,
    "softmax": "adaptive",
    "epochs": 4,
    "batch_size": 64,
    "unroll_steps": 20,
    "optimizer": "adam",
    "learning_rate": 5e-3,
    "warm_up_steps": 200,
    "dropout": 0.1,
    "seed": 11,
}
# Known and unknown words, letters of two bytes, and lengths that need padding.
REFERENCE_SENTENCES = [["The", "soup", "was", "not", "bad", "."], ["\u00c4rzte", "loved", "it"], ["Hmm"]]


def write_text(path: Path, sentences: Iterable[list[str]]) -> str:
    """Writes sentences, one a line, and returns how many they are."""
    lines = [" ".join(tokens) for tokens in sentences]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"{len(lines):,} sentences, {sum(line.count(' ') + 1 for line in lines):,} words"


def write_reference(config: ElmoConfig, path: Path) -> None:
    """Writes the model's layers of the reference sentences, and its fingerprint, as JSON."""
    sys.path.insert(0, str(ROOT / "tests"))
    import reference  # noqa: PLC0415

    options, weights = reference.read_checkpoint(config.options_file, config.weight_file)
    ids = reference.character_ids(REFERENCE_SENTENCES)
    activations, mask = reference.remove_boundaries(*reference.bilm(options, weights, ids)[:2])
    layers = [row[:length] for row, length in zip(activations, mask.sum(axis=1), strict=True)]
    allennlps = ElmoEncoder(config, engine="allennlp").embed(REFERENCE_SENTENCES)
    difference = max(np.abs(ours - theirs).max() for ours, theirs in zip(layers, allennlps, strict=True))
    if difference > 1e-5:
        raise SystemExit(f"the NumPy ELMo and AllenNLP's differ by {difference:.1e}")
    content = {
        "fingerprint": Checkpoint.open(config).fingerprint,
        "sentences": REFERENCE_SENTENCES,
        "layers": [np.round(values, 6).tolist() for values in layers],
    }
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {difference:.1e} from AllenNLP")


def training_seconds(history: Path) -> float:
    """How long all steps took, those of a process that was stopped included."""
    with open(history, encoding="utf-8", newline="") as file:
        rows = [(int(row["tokens"]), float(row["tokens_per_second"])) for row in csv.DictReader(file)]
    return sum((tokens - before) / rate for (before, _), (tokens, rate) in pairwise([(0, 0.0), *rows]))


def model_card(config: ElmoConfig, report: BilmReport, training_text: str, held_out_text: str) -> str:
    """What the model is, in Markdown."""
    options, held_out = Checkpoint.open(config).options, report.held_out_perplexities
    assert held_out is not None
    parameters = sum(map(math.prod, expected_datasets(options).values()))
    seconds = training_seconds(Path(config.weight_file).parent / "history.csv")
    rows = {
        "size": f"{parameters:,} parameters, {Path(config.weight_file).stat().st_size / 1e6:.1f} MB: "
        f"{options.num_layers} layers of {options.output_dim}, LSTMs of {options.lstm.dim} units",
        "data": f"definitions and examples of WordNet 3.0, from Debian's package `{wordnet.PACKAGE}`, "
        f"tokens as `scripts/wordnet.py` makes them: {training_text}",
        "held out": f"a tenth of the synsets: {held_out_text}; another tenth is in neither, to test on what is built "
        "on the model",
        "training": f"{TRAINING['epochs']} epochs, {report.steps:,} steps of {TRAINING['batch_size']} x "
        f"{TRAINING['unroll_steps']} tokens, Adam, dropout {TRAINING['dropout']}, seed {TRAINING['seed']}; "
        f"{report.vocabulary_size:,} words are predicted, by an adaptive softmax",
        "time": f"{seconds / 60:.0f} minutes, {report.tokens / seconds:,.0f} tokens/s, with {torch.get_num_threads()} "
        f"thread on {platform.machine()}",
        "held-out perplexity": f"{held_out.forward:.1f} forward, {held_out.backward:.1f} backward; sentence boundaries "
        "and unknown words count",
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    return f"""# The demo model

A small English ELMo: what `config="demo"` names. `scripts/make_demo_model.py` trains it, and writes this page.

| | |
|---|---|
{table}

It is for trying things out and for tests. It has read a million words of a dictionary, the published models have read
a billion of news: use those, or train one on your own text, for results.

## Licence

The weights come under the licence of this project. The text is not part of it. WordNet may be used, copied, changed and
passed on for any purpose and without a fee, as long as its notice stays with it:

> WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
"""


def main() -> None:
    """Trains and writes the model, its card and its reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", action="store_true", help="only the reference numbers of the present model")
    parser.add_argument("--wordnet", type=Path, help="folder of WordNet 3.0 (default: the system's, or the package's)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/demo_model"),
        help="of the run, which goes on where it was stopped (default: %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.reference:
        write_reference(ElmoConfig.load("demo"), DEMO / "reference.json")
        return
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    synsets = wordnet.read_synsets(wordnet.wordnet_folder(arguments.wordnet))
    text, held_out = arguments.out / "train.txt", arguments.out / "dev.txt"
    training_text = write_text(text, wordnet.sentences(synsets, "train"))
    held_out_text = write_text(held_out, wordnet.sentences(synsets, "dev"))
    report = train_bilm(
        text,
        arguments.out / "run",
        options=options_of_size("demo"),
        held_out=held_out,
        resume=True,
        console=Console(),
        **TRAINING,
    )
    folder = Path(report.config.weight_file).parent
    write_reference(report.config, folder / "reference.json")
    card = model_card(report.config, report, training_text, held_out_text)
    (folder / "model_card.md").write_text(card, encoding="utf-8")
    for name in ("options.json", "weights.hdf5", "reference.json", "model_card.md"):
        shutil.copyfile(folder / name, DEMO / name)


if __name__ == "__main__":
    try:
        main()
    except BridgeError as error:  # its message is written for users
        raise SystemExit(f"error: {error}") from None
