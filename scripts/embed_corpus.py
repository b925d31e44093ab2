"""Embeds a corpus to a feature file, on this machine or on a Ray cluster, and looks up what is in it.

Runs on the embedded demo model and its sentences by default; `--config` and the inputs name others.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from bridge import BridgeError, FeatureStore, embed_corpus
from bridge.corpus.ray_runner import embed_corpus_on_ray
from bridge.corpus.sources import InputFormat
from bridge.features.convert import convert_features

DEMO_SENTENCES = Path(__file__).resolve().parent.parent / "bridge" / "resources" / "demo" / "sentences.tsv"
MOST_COMPARED = 2_000
console = Console(soft_wrap=True, highlight=False)


def sentence_vectors(store: FeatureStore) -> np.ndarray:
    """The mean of each sentence's vectors, of length 1: `(sentences, output_dim)`."""
    vectors = np.zeros((min(len(store), MOST_COMPARED), store.token_shape[-1]), dtype=np.float32)
    for number in range(len(vectors)):
        features = store[number]
        if len(features):  # an empty line has none
            vectors[number] = features.mean(axis=0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def main() -> None:
    """Embeds, and shows which sentences are most alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="*", help="text files, a sentence a line (default: the demo's sentences)")
    parser.add_argument("--config", default="demo", help="named model or INI file (default: %(default)s)")
    parser.add_argument("--runner", choices=["local", "ray"], default="local", help="default: %(default)s")
    parser.add_argument("--num-actors", type=int, help="with --runner ray: how many workers (default: all cores)")
    parser.add_argument("--out", type=Path, default=Path("out/embed"), help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.num_actors is not None and arguments.runner == "local":
        parser.error("--num-actors goes with --runner ray.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    output = arguments.out / "features.hdf5"
    inputs = arguments.inputs or [DEMO_SENTENCES]
    input_format: InputFormat = "text" if arguments.inputs else "tsv"

    if arguments.runner == "local":
        report = embed_corpus(
            inputs,
            output,
            arguments.config,
            layers="top",
            layout="packed",
            input_format=input_format,
            overwrite=True,
            console=console,
        )
    else:
        # Every worker writes files of its own to a folder, which one file can be made of.
        shards = arguments.out / "shards"
        report = embed_corpus_on_ray(
            inputs,
            shards,
            arguments.config,
            layers="top",
            input_format=input_format,
            num_actors=arguments.num_actors,
            overwrite=True,
            console=console,
        )
        convert_features(shards, output, overwrite=True)
    console.print(
        f"{report.metadata.sentences:,} sentences, {report.metadata.tokens:,} tokens in {report.seconds:.1f} s, "
        f"cache hits {report.cache_hit_rate:.0%}: {report.output}"
    )

    # Says which weights made it, and is refused for others.
    with FeatureStore.open(output, config=arguments.config) as store:
        if not len(store):
            return
        console.print(f"the first sentence is {store.sentence(0)!r}, of the shape {store[0].shape}")
        vectors = sentence_vectors(store)
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -1)
        for number in np.argsort(-likeness.max(axis=1), kind="stable")[: 2 * 3 : 2]:
            other = int(likeness[number].argmax())
            console.print(f"{likeness[number, other]:.3f}  {store.sentence(int(number))}")
            console.print(f"       {store.sentence(other)}")


if __name__ == "__main__":
    try:
        main()
    except BridgeError as error:  # its message is written for users
        raise SystemExit(f"error: {error}") from None
