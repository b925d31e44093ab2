"""The arguments of `train_bilm`: what they do to a step, and which are refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretrain.runs import OPTIONS, history, run_quick, state

from bridge import Checkpoint
from bridge.corpus.sources import Corpus
from bridge.errors import InputTypeError, InputValueError, ResourceNotFoundError
from bridge.pretrain.batches import TrainingBatches
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.optimizers import make_optimizer
from bridge.pretrain.settings import Settings
from bridge.pretrain.sizes import SIZES, Size, options_of_size
from bridge.pretrain.vocabulary import Vocabulary
from bridge.pretrain.weights import initial_weights
from bridge.resources.checkpoint import expected_datasets


def settings_of(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "epochs": 2, "batch_size": 6, "unroll_steps": 10, "optimizer": "adam", "learning_rate": 0.1,
        "warm_up_steps": 0, "schedule": "linear", "max_norm": 10.0, "dropout": 0.0, "precision": "float32",
        "softmax": "auto", "min_count": 1, "max_vocab": None, "seed": 0, "checkpoint_steps": 10, **changes,
    }  # fmt: skip
    return Settings(**values)


def test_the_learning_rate() -> None:
    settings = settings_of(warm_up_steps=4)
    rates = [settings.learning_rate_at(step, 10) for step in range(10)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1 * 5 / 6, 0.1 * 4 / 6, 0.05, 0.1 / 3, 0.1 / 6])
    constant = settings_of(warm_up_steps=2, schedule="constant")
    assert [constant.learning_rate_at(step, 10) for step in (0, 1, 2, 9)] == pytest.approx([0.05, 0.1, 0.1, 0.1])


def test_the_softmax_goes_by_the_vocabulary() -> None:
    assert [settings_of().softmax_for(words) for words in (20_000, 20_001)] == ["full", "adaptive"]
    assert settings_of(softmax="full").softmax_for(10**6) == "full"


@pytest.mark.parametrize("max_norm", [1e9, 0.05])
def test_a_step_is_bilm_tfs(text: Path, tmp_path: Path, max_norm: float) -> None:
    """Adagrad from 1.0, on the clipped gradient of `unroll_steps` times the mean of both directions' losses."""
    arguments: dict[str, Any] = {"optimizer": "adagrad", "max_norm": max_norm, "dropout": 0.0, "batch_size": 90}
    run_quick(text, tmp_path / "run", **arguments, epochs=1, learning_rate=0.2)  # one step
    arrays, _ = state(tmp_path / "run")
    vocabulary = Vocabulary.load(tmp_path / "run" / "vocabulary.txt")
    model = LanguageModel(OPTIONS, initial_weights(OPTIONS, 1), len(vocabulary), dropout=0.0, seed=1)
    batch = next(TrainingBatches(Corpus(text), vocabulary, batch_size=90, unroll_steps=10, seed=1))
    losses, _ = model(batch, model.initial_state(90))
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(10 * (losses[0] + losses[1]) / 2, list(parameters.values()))
    norm = math.sqrt(sum(float(gradient.double().pow(2).sum()) for gradient in gradients))
    scale = min(1.0, max_norm / norm)
    assert (scale < 1) == (max_norm == 0.05)
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        clipped = scale * gradient.double().numpy()
        wanted = parameter.detach().double().numpy() - 0.2 * clipped / np.sqrt(1 + clipped**2)
        np.testing.assert_allclose(arrays[name], wanted, rtol=1e-5, atol=1e-6, err_msg=name)
    (row,) = history(tmp_path / "run")
    assert float(row["gradient_norm"]) == pytest.approx(norm, rel=1e-4)


def test_adams_state_is_as_adam_makes_it() -> None:
    """It is made before the first step; here beside one that PyTorch makes by itself."""
    models = [torch.nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [
        make_optimizer(models[0].parameters(), "adam", 0.1),
        torch.optim.Adam(models[1].parameters(), lr=0.1),
    ]
    for _ in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(torch.ones(1, 3)).pow(2).sum().backward()
            optimizer.step()
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: Size) -> None:
    options = options_of_size(size)
    if size == "demo":
        assert options == Checkpoint.open("demo").options
    numbers = {"small": 13.6, "medium": 28.0, "original": 93.6}
    if size in numbers:  # as published, in millions
        total = sum(math.prod(shape) for shape in expected_datasets(options).values())
        assert total / 1e6 == pytest.approx(numbers[size], abs=0.05)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"options": None}, InputValueError, "Either `options` or `config` must be given. Received: neither"),
        ({"config": "demo", "options": OPTIONS}, InputValueError, "Received: both"),
        ({"options": {"lstm": 1}}, InputTypeError, "`options` must be ElmoOptions"),
        ({"epochs": 0}, InputValueError, "`epochs` must be at least 1"),
        ({"batch_size": 1.5}, InputTypeError, "`batch_size` must be an integer"),
        ({"unroll_steps": -1}, InputValueError, "`unroll_steps`"),
        ({"checkpoint_steps": 0}, InputValueError, "`checkpoint_steps`"),
        ({"max_vocab": 3}, InputValueError, "`max_vocab` must be at least 4"),
        ({"learning_rate": 0.0}, InputValueError, r"`learning_rate` \(--learning-rate\) must be above 0"),
        ({"learning_rate": math.nan}, InputTypeError, "`learning_rate` .*must be a finite number"),
        ({"max_norm": "10"}, InputTypeError, r"`max_norm` \(--max-norm\) must be a finite number"),
        ({"dropout": 1.0}, InputValueError, "from 0 to below 1"),
        ({"optimizer": "sgd"}, InputValueError, '`optimizer` must be "adam" or "adagrad"'),
        ({"schedule": "cosine"}, InputValueError, "`schedule` must be"),
        ({"softmax": "sampled"}, InputValueError, "`softmax` must be"),
        ({"precision": "float16"}, InputValueError, "`precision` must be"),
        ({"warm_up_steps": 30}, InputValueError, "fewer than all steps. Received: 30, and 2 epochs of 900 .* 30"),
        ({"resume": 1}, InputTypeError, "`resume` must be True or False"),
        ({"resume": True, "overwrite": True}, InputValueError, "must not both be given"),
        ({"device": "tpu"}, InputValueError, "`device` must be a device"),
        ({"held_out": "nowhere.txt"}, ResourceNotFoundError, "nowhere.txt"),
        ({"held_out": "-"}, InputValueError, "`held_out` must be files.*standard input"),
        ({"min_count": 1000}, InputValueError, "`min_count` must leave a word"),
    ],
)  # fmt: skip
def test_wrong_arguments(
    text: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_quick(text, tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"\n\n", "have a token at least. Received: '.*, with empty lines only"),
        ("boundary.txt", b"a x\n<S> a x </S>\n", "Received: '<S>' in line 2"),
        ("latin.txt", b"a x\nb \xe4\n", "latin.txt.* UTF-8"),
        ("broken.txt.gz", b"a x\n", "broken.txt.gz"),
    ],
)
def test_a_wrong_held_out_text_is_told_before_the_training(
    text: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputValueError, match=rf"`held_out` \(--held-out\) must .*{message}"):
        run_quick(text, tmp_path / "run", held_out=tmp_path / name)
    assert not (tmp_path / "run").exists()


def test_an_empty_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n \n")
    with pytest.raises(InputValueError, match=r"`inputs`\) must have a token at least.*Give files"):
        run_quick(tmp_path / "text.txt", tmp_path / "run")
    assert not (tmp_path / "run").exists()
