"""Fuzzing of the encoder: its arguments, character ids, masks and token lists."""

import functools
from typing import Any

import numpy as np
import pytest
from fuzz.fuzzing import SLOW, Entry, fuzz, parametrized
from fuzz.tensors import odd_tensors
from fuzz.values import anything, arrays, batches, character_ids, flags, limits, odd_values, scalars
from hypothesis import strategies as st

from bridge import BiLmOutput, ElmoEncoder, batch_to_ids


@functools.cache
def encoder(engine: Any = "auto") -> ElmoEncoder:
    return ElmoEncoder("demo", engine=engine)


def call_fused(**arguments: Any) -> BiLmOutput:
    return encoder()(**arguments)


def call_allennlp(**arguments: Any) -> BiLmOutput:
    return encoder("allennlp")(**arguments)


def check_output(output: BiLmOutput, char_ids: Any, mask: Any = None, **_: Any) -> None:
    activations, tokens = output.activations.numpy(), output.mask.numpy()
    assert activations.dtype == np.float32
    assert activations.shape == (*np.shape(char_ids)[:2], 3, 128)
    assert tokens.shape == activations.shape[:2]
    assert np.isfinite(activations).all()
    assert (activations[~tokens] == 0).all()
    if mask is None:
        np.testing.assert_array_equal(tokens, (np.asarray(char_ids) != 0).any(-1))


def check_vectors(vectors: Any, sentences: Any, layers: Any = "all") -> None:
    assert isinstance(vectors, list)
    wanted = (3, 128) if layers == "all" else (128,)
    assert all(row.shape[1:] == wanted and np.isfinite(row).all() for row in vectors)
    if isinstance(sentences, list):
        assert [len(row) for row in vectors] == [len(sentence) for sentence in sentences]


masks = st.none() | arrays() | anything | odd_tensors
options: dict[str, Any] = {
    "state": st.sampled_from(["zero", "warm", "carry", "cold"]) | scalars,
    "engine": st.sampled_from(["auto", "fused", "allennlp"]) | scalars,
    "precision": st.sampled_from(["float32", "bfloat16", "float64"]) | scalars,
    "device": st.sampled_from(["cpu", "cuda:99", "nowhere", "", -1, 10**30]) | odd_values,
    "keep_sentence_boundaries": flags | scalars,
    "max_tokens_per_pass": limits,
    "token_cache_bytes": limits,
}

TABLE = [
    Entry(
        "ElmoEncoder of arguments",
        st.fixed_dictionaries({}, optional=options),
        lambda **arguments: ElmoEncoder("demo", **arguments),
        lambda made, **_: made(batch_to_ids([["a"]])),
    ),
    Entry(
        "ElmoEncoder of a config", st.fixed_dictionaries({"config": scalars}), ElmoEncoder, lambda made, config: None
    ),
    Entry(
        "ElmoEncoder called",
        st.fixed_dictionaries(
            {"char_ids": character_ids() | arrays() | anything | odd_tensors}, optional={"mask": masks}
        ),
        call_fused,
        check_output,
        examples=40,
    ),
    Entry(
        "ElmoEncoder called, with AllenNLP's engine",
        st.fixed_dictionaries({"char_ids": character_ids()}),
        call_allennlp,
        check_output,
        examples=4,
    ),
    Entry(
        "ElmoEncoder.embed",
        st.fixed_dictionaries(
            {"sentences": batches | anything}, optional={"layers": st.sampled_from(["all", "top", "average", 1, None])}
        ),
        lambda **arguments: encoder().embed(**arguments),
        check_vectors,
        examples=30,
    ),
]


@parametrized(TABLE)
def test_encoder(entry: Entry) -> None:
    fuzz(entry)


@pytest.mark.slow
@parametrized(TABLE)
def test_encoder_for_long(entry: Entry) -> None:
    assert fuzz(entry, SLOW / 2)["refused"]
