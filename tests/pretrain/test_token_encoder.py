"""`token_vectors`: value and gradient of AllenNLP's `_ElmoCharacterEncoder`, for words of any length."""

from typing import Any

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretrain.language_models import allennlp_bilm, options_of, random_weights
from torch.utils.flop_counter import FlopCounterMode

from bridge.pretrain.token_encoder import token_vectors

CASES: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "tanh, two highways": {"activation": "tanh", "n_highway": 2},
    "one wide filter, no highway": {"filters": ((7, 5),), "n_highway": 0},
    "filters as wide as a token": {"filters": ((49, 3), (50, 4), (1, 2))},
}
words = st.lists(
    st.one_of(st.text(st.characters(codec="utf-8"), max_size=60), st.text("a", max_size=50), st.just("<S>")),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module", params=CASES, ids=str)
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    options = options_of(**CASES[request.param])
    return allennlp_bilm(options, random_weights(options), tmp_path_factory.mktemp("model"))._token_embedder


def gradients(embedder: Any) -> list[torch.Tensor]:
    found = [parameter.grad for parameter in embedder.parameters()]
    embedder.zero_grad()
    return found


@given(words=words)
def test_equals_allennlp(embedder: Any, words: list[str]) -> None:
    char_ids = torch.from_numpy(reference.character_ids([words])[0])
    expected = embedder(char_ids[None])["token_embedding"][0, 1:-1]  # without the boundaries that it adds
    received = token_vectors(embedder, char_ids)
    torch.testing.assert_close(received, expected, rtol=0, atol=1e-12)
    random = np.random.default_rng(len(words)).standard_normal(tuple(received.shape))
    for vectors in (received, expected):
        (vectors * torch.from_numpy(random)).sum().backward()
        if vectors is received:
            ours = gradients(embedder)
    for own, theirs in zip(ours, gradients(embedder), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-10, atol=1e-11)


def test_short_words_take_less(embedder: Any) -> None:
    """Otherwise AllenNLP's could be called as it is."""
    char_ids = torch.from_numpy(reference.character_ids([["a"] * 8 + ["x" * 60]])[0])
    flops = []
    for encode in (lambda: token_vectors(embedder, char_ids), lambda: embedder(char_ids[None, 1:-1])):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            encode()  # AllenNLP's puts two boundaries around the words
        flops.append(counter.get_flop_counts()["Global"][torch.ops.aten.convolution])
    widest = max(convolution.kernel_size[0] for convolution in embedder._convolutions)
    assert flops[0] < 0.6 * flops[1] or widest > 40
