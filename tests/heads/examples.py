"""Labelled and tagged sentences by rule, and a head's plain Keras layers in the place of ELMo."""

import keras
import numpy as np

from bridge.text.readers import Example

FIRST, LAST, PLACES = ("anna", "bob", "carla"), ("berg", "stein"), ("rome", "oslo")
OTHER = ("the", "a", "went", "to", "saw", "quickly", ".", "and")
TAGS = ["O", "B-LOC", "B-PER", "I-PER"]
LABELS = ["home", "travel"]


def tagged(count: int, seed: int) -> list[Example]:
    """People with one name or two, and places."""
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        tokens: list[str] = []
        tags: list[str] = []
        for _ in range(rng.integers(1, 6)):
            kind = rng.integers(0, 4)
            if kind == 0:
                tokens += [str(rng.choice(FIRST)), str(rng.choice(LAST))]
                tags += ["B-PER", "I-PER"]
            elif kind == 1:
                tokens.append(str(rng.choice(FIRST + PLACES)))
                tags.append("B-PER" if tokens[-1] in FIRST else "B-LOC")
            else:
                tokens.append(str(rng.choice(OTHER)))
                tags.append("O")
        examples.append(Example(tokens, tags, f"made up, line {number + 1}"))
    return examples


def labelled(count: int, seed: int) -> list[Example]:
    """A sentence with a place in it is about travel."""
    return [
        example._replace(target="travel" if set(example.tokens) & set(PLACES) else "home")
        for example in tagged(count, seed)
    ]


def plain_vectors(dim: int = 8) -> list[keras.layers.Layer]:
    """A lookup and an embedding: quick, and with a mask, as ELMo has one."""
    vocabulary = [*FIRST, *LAST, *PLACES, *OTHER]
    lookup = keras.layers.StringLookup(vocabulary=vocabulary, mask_token="")
    return [lookup, keras.layers.Embedding(len(vocabulary) + 2, dim, mask_zero=True)]
