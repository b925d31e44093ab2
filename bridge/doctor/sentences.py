"""Three sentences through the whole bridge, against known numbers: run these checks in fresh processes.

The numbers are those of the demo model, computed in float64 NumPy by `scripts/make_demo_model.py`. For other weights
nobody knows them: there the fused engine is compared with AllenNLP's own biLM.
"""

# ruff: noqa: PLC0415 - imports of seconds, and what they import may be missing

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bridge.doctor.findings import REPORT_IT, Finding, note, ok, problem
from bridge.resources.config import MODELS_FILE, ElmoConfig

if TYPE_CHECKING:
    import numpy as np

REFERENCE_FILE = MODELS_FILE.with_name("demo") / "reference.json"
# Float32 on all processors stays within 1e-5 of float64 on ordinary text.
TOLERANCE = 3e-5
REMEDY = f"Install the tested versions of torch, tensorflow, numpy and allennlp. {REPORT_IT}"


class Reference(NamedTuple):
    """The demo model's numbers.

    Attributes:
        fingerprint: of the weights that they are of.
        sentences: token lists.
        layers: for each sentence float64 `(timesteps, num_layers, output_dim)`.
    """

    fingerprint: str
    sentences: list[list[str]]
    layers: list[np.ndarray]


def read_reference(path: Path = REFERENCE_FILE) -> Reference:
    """The reference numbers that come with the package."""
    import numpy as np

    content = json.loads(path.read_text(encoding="utf-8"))
    return Reference(content["fingerprint"], content["sentences"], [np.array(values) for values in content["layers"]])


def check_demo_sentences(config: dict[str, Any] | None = None) -> Iterator[Finding | str]:
    """The encoder with both engines, the layer in and outside graphs, and a model's `predict`, against the reference.

    Args:
        config: the fields of the demo model's `ElmoConfig`, if its files are elsewhere.
    """
    yield "import bridge"
    import numpy as np

    from bridge import Checkpoint, ElmoEncoder

    reference = read_reference()
    weights = ElmoConfig(**config) if config else ElmoConfig.load("demo")
    if Checkpoint.open(weights).fingerprint != reference.fingerprint:
        yield problem(
            "sentences",
            "The demo model's files are not those that came with this package.",
            "Install it again.",
            "pip install --force-reinstall --no-deps elmo-keras-bridge",
        )
    for engine in ("fused", "allennlp"):
        path = f"ElmoEncoder with the {engine} engine"
        yield path
        yield compared(path, ElmoEncoder(weights, engine=engine).embed(reference.sentences), reference.layers)

    yield "import tensorflow and keras"
    import keras
    import tensorflow as tf

    from bridge import ElmoEmbedding, to_tensor

    tokens = to_tensor(reference.sentences)
    layer = ElmoEmbedding(weights, output_mode="all")
    yield "ElmoEmbedding, eager"
    yield compared("ElmoEmbedding, eager", _unpadded(layer(tokens), reference), reference.layers)
    yield "ElmoEmbedding, in a graph"

    @tf.function
    def graph(tokens: tf.Tensor) -> tf.Tensor:
        return layer(tokens)

    yield compared("ElmoEmbedding, in a graph", _unpadded(graph(tokens), reference), reference.layers)
    yield "a Keras model's predict"
    model = keras.Sequential(
        [keras.Input((None,), dtype="string"), ElmoEmbedding(weights, pooling="mean"), keras.layers.Activation("tanh")]
    )
    wanted = [np.tanh(layers.mean(axis=(0, 1))) for layers in reference.layers]
    yield compared("a Keras model's predict", list(model.predict(tokens, verbose=0)), wanted)


def check_own_sentences(config: dict[str, Any], download: bool) -> Iterator[Finding | str]:
    """The fused engine against AllenNLP's own biLM, on weights whose numbers nobody knows.

    Args:
        config: the fields of an `ElmoConfig`.
        download: whether files at a URL may be downloaded.
    """
    yield "import bridge"
    import numpy as np

    from bridge import Checkpoint, ElmoEncoder

    sentences = read_reference().sentences
    checkpoint = Checkpoint.open(ElmoConfig(**config), download=download)
    vectors: dict[str, Sequence[np.ndarray]] = {}
    for engine in ("fused", "allennlp"):
        yield f"ElmoEncoder with the {engine} engine"
        vectors[engine] = ElmoEncoder(checkpoint, engine=engine).embed(sentences)
    if not all(np.isfinite(values).all() for values in vectors["allennlp"]):
        yield problem("your weights", "Their vectors are NaN or infinite.", "The weights are damaged: get them again.")
        return
    largest = _largest_difference(vectors["fused"], vectors["allennlp"])
    scale = max(1.0, *(float(np.abs(values).max()) for values in vectors["allennlp"]))
    found = f"The fused engine and AllenNLP's differ by {largest:.1e} on 3 sentences, of values up to {scale:.1f}"
    # Rounding grows with the weights; what is wrong by more than that is wrong everywhere.
    if largest <= TOLERANCE * scale:
        yield ok("your weights", f"{found}.")
    elif largest <= 100 * TOLERANCE * scale:
        yield note(
            "your weights", f"{found}: they amplify rounding.", 'AllenNLP\'s own numbers are `engine="allennlp"`.'
        )
    else:
        yield problem("your weights", f"{found}.", REMEDY)


def compared(path: str, received: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> Finding:
    """Whether the vectors that came out of a part of the bridge are the known ones."""
    shapes, wanted_shapes = [values.shape for values in received], [values.shape for values in wanted]
    if shapes != wanted_shapes:
        return problem("sentences", f"{path}: shapes {shapes}, must be {wanted_shapes}.", REMEDY)
    largest = _largest_difference(received, wanted)
    found = f"{path}: {len(wanted)} sentences, largest difference to the demo model's known numbers {largest:.1e}"
    if largest <= TOLERANCE:  # false for NaN
        return ok("sentences", f"{found}.")
    return problem("sentences", f"{found}, must be at most {TOLERANCE:.0e}.", REMEDY)


def _largest_difference(received: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    import numpy as np

    return float(np.max([np.abs(ours - known).max() for ours, known in zip(received, wanted, strict=True)]))


def _unpadded(layers: Any, reference: Reference) -> list[np.ndarray]:
    """Rows of a batch without their padding."""
    return [row[: len(sentence)] for row, sentence in zip(layers.numpy(), reference.sentences, strict=True)]
