"""scripts/benchmark.py --pretrain: both contestants train the same model on the same text, and figures fit together."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch

from bridge import Checkpoint
from bridge.pretrain.batches import Batch

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
SENTENCES = [["the", "old", "the", "house"], ["one"], ["never", "the", "one"]]


@pytest.fixture(autouse=True, scope="module")
def scripts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        import benchmark
        import benchmarking.pretraining

        # Small steps, and a vocabulary of little text.
        for name, value in {"BATCH_SIZE": 4, "UNROLL_STEPS": 5, "TOKENS": 20, "VOCABULARY_TOKENS": 500}.items():
            patch.setattr(benchmarking.pretraining, name, value)
        patch.setattr(benchmark, "TOKENS", 20)  # another test may have imported it before
        yield


def run(*arguments: object) -> None:
    import benchmark

    benchmark.main([str(argument) for argument in arguments])


def one_batch() -> Any:
    """The sentences as whole ones, and a row each, which begins with the sentence; words are numbered as they come."""
    from benchmarking.pretraining import SentenceBatch, Text, sentence_batch

    from bridge.pretrain.vocabulary import Vocabulary

    vocabulary, _ = Vocabulary.count(SENTENCES)
    whole = sentence_batch(iter([*SENTENCES, *[["more"]] * 20]), vocabulary)
    rows = len(SENTENCES)
    whole = SentenceBatch(whole.char_ids[:rows], (whole.targets[0][:rows], whole.targets[1][:rows]))
    inputs = np.zeros((2, 1 + max(map(len, SENTENCES)), rows), dtype=np.int64)
    targets = np.full_like(inputs, -1)
    for row, words in enumerate(map(vocabulary.ids, SENTENCES)):
        steps = len(words) + 1
        inputs[0, :steps, row], targets[0, :steps, row] = [0, *words], [*words, 1]
        inputs[1, :steps, row], targets[1, :steps, row] = [1, *reversed(words)], [*reversed(words), 0]
    batch = Batch(reference.character_ids([vocabulary.tokens])[0], inputs, targets)
    return Text(len(vocabulary), [batch], [whole])


def test_contestants_have_the_same_loss_and_gradients(tmp_path: Path) -> None:
    from benchmarking.contestants import random_checkpoint
    from benchmarking.pretraining import ALLENNLP, make_contestant

    checkpoint, text = Checkpoint.open(random_checkpoint(tmp_path, "tiny")), one_batch()
    results = []
    for name in (ALLENNLP, "LanguageModel float32"):
        contestant = make_contestant(name, checkpoint, text)
        losses, tokens = contestant.losses(text, 0)
        losses.sum().backward()
        assert tokens == sum(len(sentence) + 1 for sentence in SENTENCES)
        results.append([losses.detach(), *(parameter.grad for parameter in contestant.model.parameters())])
        before = [parameter.detach().clone() for parameter in contestant.model.parameters()]
        assert contestant.step(text, 0) == tokens
        for values, parameter in zip(before, contestant.model.parameters(), strict=True):
            assert not torch.equal(values, parameter)  # all of it is trained
    for received, expected in zip(*results, strict=True):
        torch.testing.assert_close(received, expected, rtol=1e-4, atol=1e-5)


def test_allennlps_state_is_carried(tmp_path: Path) -> None:
    """As the bridge's is: the second step begins where the first one ended."""
    from benchmarking.contestants import random_checkpoint
    from benchmarking.pretraining import ALLENNLP, make_contestant

    checkpoint, text = Checkpoint.open(random_checkpoint(tmp_path, "tiny")), one_batch()
    for name in (ALLENNLP, "LanguageModel float32"):
        contestant = make_contestant(name, checkpoint, text)
        first, second = (contestant.losses(text, 0)[0].detach() for _ in range(2))
        assert (first - second).abs().min() > 1e-4


@pytest.mark.parametrize("of_file", [pytest.param(False, marks=pytest.mark.slow), True])
def test_figures_fit_together(
    of_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import benchmarking.pretraining

    given: list[object] = []
    if of_file:  # shorter than what is trained on: it is read again
        (tmp_path / "text.txt").write_text("the old house\n\none never the one\n", encoding="utf-8")
        # Fresh processes take long: the other run has them.
        monkeypatch.setattr(benchmarking.pretraining, "_memory", lambda *_: {"loaded_mib": 60, "peak_mib": 70})
        given = ["--text", tmp_path / "text.txt", "--max-vocab", 6]
    precisions = ["float32"] if of_file else ["float32", "bfloat16"]
    run(
        "--pretrain", "--model", "tiny", "--turns", 2, "--precision", *precisions, *given, "--json", tmp_path / "a.json"
    )
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    records = written["records"]
    names = ["loop over AllenNLP's ElmoLstm", *(f"LanguageModel {precision}" for precision in precisions)]
    assert [record["contestant"] for record in records] == names
    assert written["softmax"] == "full"
    assert written["vocabulary_size"] == (6 if of_file else pytest.approx(300, abs=100))
    for record in records:
        assert len(record["tokens"]) == 2
        assert all(20 <= tokens < 20 + 50 for tokens in record["tokens"])
        assert record["contestant"] == names[0] or set(record["tokens"]) == {20}
        for turn, tokens in enumerate(record["tokens"]):
            rate = tokens / record["seconds"][turn]
            assert record["tokens_per_second"][turn] == rate
            assert record["ratios"][turn] == rate / records[0]["tokens_per_second"][turn]
        for name, median in record["medians"].items():
            assert median == statistics.median(record[name])
        assert 50 < record["loaded_mib"] <= record["peak_mib"] < 2000
    printed = capsys.readouterr().out
    assert "2 steps of 20 tokens" in printed
    assert all(name in printed for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "float16"], "--precision must be float32 or bfloat16 with --pretrain."),
        (["--batch-size", "4"], "--batch-size means nothing with --pretrain: leave it out."),
        (["--max-vocab", "3"], "must be an integer of at least 4. Received: '3'."),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--pretrain", *arguments)
    assert message in capsys.readouterr().err


def test_max_vocab_is_of_pretraining_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--max-vocab", "100")
    assert "--max-vocab means nothing" in capsys.readouterr().err
