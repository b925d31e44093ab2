"""`import bridge`: every public name is there, and nothing heavy is imported before it is used."""

import subprocess
import sys

import pytest

import bridge


@pytest.mark.parametrize("name", bridge.__all__)
def test_every_name_can_be_used(name: str) -> None:
    assert getattr(bridge, name).__doc__


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ElmoEmbeding'"):
        _ = bridge.ElmoEmbeding


def test_files_and_text_need_neither_torch_nor_tensorflow() -> None:
    code = """
import sys
from bridge import Checkpoint, batch_to_ids
assert batch_to_ids([["a"]]).shape == (1, 1, 50) and Checkpoint.open("demo").num_layers == 3
assert not {"torch", "tensorflow", "keras", "allennlp", "cached_path"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_encoder_needs_no_tensorflow() -> None:
    code = """
import sys
from bridge import ElmoEncoder
assert [vectors.shape for vectors in ElmoEncoder("demo").embed([["a", "b"]])] == [(2, 3, 128)]
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
