"""What `ElmoEncoder` accepts, refuses and returns."""

from typing import Any

import numpy as np
import pytest
import torch

from bridge.encoder.encoder import BiLmOutput, ElmoEncoder
from bridge.errors import InputTypeError, InputValueError, UnsupportedError
from bridge.resources.config import ElmoConfig
from bridge.text.characters import batch_to_ids

SENTENCES = [["The", "cat", "sat", "."], [], ["Hello"], ["<S>", "", "é" * 30]]
IDS = batch_to_ids(SENTENCES)
MASK = np.arange(4) < np.array([[4], [0], [1], [3]])


def assert_same(received: BiLmOutput, expected: BiLmOutput) -> None:
    """Of one encoder: to the last bit."""
    assert torch.equal(received.activations, expected.activations)
    assert torch.equal(received.mask, expected.mask)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint16", "uint32", "uint64", ">i4"])
def test_every_integer_of_16_bits_and_more(encoder: ElmoEncoder, dtype: str) -> None:
    import tensorflow as tf

    ids = IDS.astype(dtype)
    assert_same(encoder(ids), encoder(IDS))
    assert_same(encoder(np.asfortranarray(ids)), encoder(IDS))
    if ids.dtype.isnative:
        assert_same(encoder(torch.from_numpy(ids)), encoder(IDS))
        assert_same(encoder(tf.constant(ids), tf.constant(MASK)), encoder(IDS))


def test_the_callers_arrays_are_only_read(encoder: ElmoEncoder) -> None:
    ids, mask = IDS.copy(), MASK.copy()
    mask[0, 3] = False
    ids.flags.writeable = mask.flags.writeable = False
    encoder(ids, mask)
    np.testing.assert_array_equal(ids, IDS)


def test_outputs_are_fresh(encoder: ElmoEncoder) -> None:
    ids = torch.from_numpy(IDS.copy())
    expected = encoder(IDS)
    output = encoder(ids, torch.from_numpy(MASK.copy()))
    ids.zero_()
    assert_same(output, expected)
    assert not output.activations.requires_grad
    output.activations.fill_(7)
    output.mask.fill_(True)
    vectors = encoder.embed(SENTENCES)
    vectors[0].fill(7)
    assert_same(encoder(IDS), expected)
    assert encoder.embed(SENTENCES)[0].max() < 7


WRONG_IDS: list[tuple[Any, type[Exception], str]] = [
    (IDS.tolist(), InputTypeError, r"a NumPy array or a tensor.*type list.*np.array\(ids, dtype='int32'\)"),
    (SENTENCES, InputTypeError, "a NumPy array or a tensor.*type list. Sentences go through `batch_to_ids`"),
    (None, InputTypeError, "a NumPy array or a tensor.*type NoneType"),
    (np.array([["The", "cat"]]), InputTypeError, "integers .*Make the ids with `batch_to_ids`"),
    (IDS.astype("float32"), InputTypeError, "integers .*dtype float32"),
    (torch.from_numpy(IDS).bfloat16(), InputTypeError, "integers .*dtype float32"),
    (IDS.astype("int8"), InputTypeError, "at least 16 bits.*dtype int8"),
    (torch.from_numpy(IDS).byte(), InputTypeError, "at least 16 bits.*dtype uint8"),
    (IDS > 0, InputTypeError, "integers .*dtype bool"),
    (IDS[0, 0], InputValueError, r"shape \(50\) of rank 1"),
    (IDS[0], InputValueError, r"is a batch of one: `char_ids\[None\]`"),
    (np.array([[5, 6]]), InputValueError, "looks like word ids"),
    (IDS[None], InputValueError, "rank 4"),
    (IDS[:, :, :49], InputValueError, "49 characters a token"),
    (IDS + 1, InputValueError, "from 0 to 261. Received: 262 in row 0 at timestep 0"),
    (IDS - 1, InputValueError, "from 0 to 261. Received: -1 in row 1 at timestep 0"),
    (IDS[:, ::-1], InputValueError, "padding .zeros; .* only after.*row 2 of the batch with padding at timestep 0"),
    (np.concatenate([IDS, IDS], axis=1), InputValueError, "padding .zeros; .* only after.*row 2 .* timestep 1"),
]


@pytest.mark.parametrize(("char_ids", "error", "words"), WRONG_IDS)
def test_refused_ids(encoder: ElmoEncoder, char_ids: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"`char_ids` must .*{words}"):
        encoder(char_ids)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"state": "warmish"}, '`state` must be .*"zero".*"carry".*Received: \'warmish\''),
        ({"state": ["zero"]}, "`state` must be "),
        ({"engine": "fast"}, "`engine` must be .*\"auto\".*Received: 'fast'"),
        ({"engine": None}, "`engine` must be .*Received: None"),
        ({"precision": "int8"}, '`precision` must be .*"float32".*"bfloat16".*"float16".*Received: \'int8\''),
        ({"precision": torch.bfloat16}, "`precision` must be .*Received: torch.bfloat16"),
        (
            {"precision": "bfloat16", "engine": "allennlp"},
            '`precision` must be "float32" with `engine="allennlp"`.*Received: \'bfloat16\'.*`engine="fused"`',
        ),
        ({"precision": "float16", "engine": "allennlp"}, "`precision` must be \"float32\".*Received: 'float16'"),
        *(
            ({name: value}, f"`{name}` must be at least {minimum}. Received: {value}")
            for name, minimum, value in [
                ("max_tokens_per_pass", 1, 0),
                ("max_tokens_per_pass", 1, -1),
                ("token_cache_bytes", 0, -1),
            ]
        ),
        *(
            ({name: value}, f"`{name}` must be an integer. Received: {value}")
            for name in ("max_tokens_per_pass", "token_cache_bytes")
            for value in (2.5, None, True)
        ),
        ({"device": "gpu"}, "`device` must be a device that PyTorch has here.*Received: 'gpu'"),
        ({"device": "meta"}, "`device` must be a device that PyTorch has here.*Received: 'meta'"),
        ({"device": 3.5}, "`device` must be a device that PyTorch has here.*Received: 3.5"),
        ({"device": 1000}, "`device` must be a device that PyTorch has here.*Received: 1000"),
    ],
)
def test_refused_arguments(small: ElmoConfig, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((InputValueError, InputTypeError), match=words):
        ElmoEncoder(small, **arguments)


def test_parameters_are_allennlps(small: ElmoConfig) -> None:
    encoder = ElmoEncoder(small, engine="fused")
    assert not list(encoder.module._elmo_lstm.parameters())
    for call in (encoder.release_parameters, lambda: encoder.call_with({}, IDS)):
        with pytest.raises(UnsupportedError, match=r'`engine` must be "allennlp" for .*"fused".*`engine="allennlp"`'):
            call()


def test_the_token_cache_is_the_fused_engines(small: ElmoConfig) -> None:
    assert ElmoEncoder(small, engine="fused").token_cache_info().hits == 0
    with pytest.raises(UnsupportedError, match=r"`engine` must be .fused. for a cache.*Received: 'allennlp'"):
        ElmoEncoder(small, engine="allennlp").token_cache_info()


def test_engines_by_name(small: ElmoConfig) -> None:
    names = {engine: ElmoEncoder(small, engine=engine).engine for engine in ("auto", "fused", "allennlp")}
    assert names == {"auto": "fused", "fused": "fused", "allennlp": "allennlp"}
