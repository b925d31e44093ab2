"""Which options of ElmoEmbedding are refused, and in which words."""

from typing import Any

import numpy as np
import pytest

from bridge import ElmoConfig, ElmoEmbedding
from bridge.errors import InputTypeError, InputValueError

WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a string of numbers": ({"scalar_mix_parameters": "012"}, InputTypeError, "must be a list.*type str"),
    "a set": ({"scalar_mix_parameters": {0, 1, 2}}, InputTypeError, "must be a list.*type set"),
    "words": ({"scalar_mix_parameters": ["a", "b", "c"]}, InputTypeError, "must be a list of numbers"),
    "not a number": ({"scalar_mix_parameters": [0, 1, np.nan]}, InputValueError, "softmax is not a number"),
    "infinite": ({"scalar_mix_parameters": [0, 1, np.inf]}, InputValueError, "softmax is not a number"),
    "a seed of text": ({"seed": "7"}, InputTypeError, "`seed` must be an integer"),
    "a seed below 0": ({"seed": -1}, InputValueError, "`seed` must be at least 0"),
    "a rate of nan": ({"dropout": np.nan}, InputValueError, "`dropout` must be a rate"),
    "a rate of True": ({"dropout": True}, InputValueError, "`dropout` must be a rate"),
    "no outputs": ({"num_output_representations": 0}, InputValueError, "must be at least 1"),
    "half an output": ({"num_output_representations": 1.5}, InputTypeError, "must be an integer"),
    "outputs without a mix": (
        {"num_output_representations": 2, "output_mode": "all"},
        InputValueError,
        "`num_output_representations` must be left out without a mix",
    ),
    "regularizer without a mix": (
        {"mix_regularizer": "l2", "output_mode": "top"},
        InputValueError,
        "`mix_regularizer` must be left out without a mix",
    ),
    "regularizer of a fixed mix": (
        {"mix_regularizer": "l2", "scalar_mix_parameters": [0, 1, 2]},
        InputValueError,
        "`mix_regularizer` must be left out beside `scalar_mix_parameters`",
    ),
    "max pooling": ({"pooling": "max"}, InputValueError, "`pooling` must be \"mean\". Received: 'max'"),
    **{
        f"{name}=1": ({name: 1}, InputTypeError, f"`{name}` must be True or False. Received: 1")
        for name in ("do_layer_norm", "keep_sentence_boundaries", "requires_grad", "embed_weights")
    },
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str, small: ElmoConfig) -> None:
    arguments, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        ElmoEmbedding(small, **arguments)
