"""Sentences as names of HDF5 datasets."""

from pathlib import Path

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.features.keys import decode_key, encode_key

# Mostly of the characters that matter.
awkward = st.text(st.sampled_from("%/.\x002F50Ea ")) | st.text(st.characters(codec="utf-8"))


@pytest.mark.parametrize(
    ("sentence", "key"),
    [
        ("the cat sat", "the cat sat"),
        ("a / b", "a %2F b"),
        ("/", "%2F"),
        (".", "%2E"),
        ("..", ".."),
        ("the end .", "the end ."),
        ("a\0b", "a%00b"),
        ("100 % sure", "100 % sure"),
        ("%2F", "%252F"),
        ("%2f", "%2f"),
        ("%25", "%2525"),
        ("%%2E", "%%252E"),
        ("50%/50%", "50%%2F50%"),
        ("中 / Größe", "中 %2F Größe"),
    ],
)
def test_keys(sentence: str, key: str) -> None:
    assert encode_key(sentence) == key
    assert decode_key(key) == sentence


@given(awkward)
def test_every_sentence_comes_back(sentence: str) -> None:
    key = encode_key(sentence)
    assert decode_key(key) == sentence
    assert "/" not in key
    assert "\0" not in key
    assert key != "."


def test_hdf5_takes_every_key_as_one_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "keys.hdf5", "w", libver=("v110", "v110")) as file:

        @given(st.lists(awkward.filter(bool), unique=True))
        def check(sentences: list[str]) -> None:
            file.clear()
            for sentence in sentences:
                file[encode_key(sentence)] = [1.0]
            assert {decode_key(key) for key in file} == set(sentences)

        check()
