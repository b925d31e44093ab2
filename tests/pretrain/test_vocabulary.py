"""The vocabulary is what a naive count of the text says, and goes through a file unchanged."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputTypeError, InputValueError, ResourceNotFoundError
from bridge.pretrain.vocabulary import Vocabulary

RESERVED = ["<S>", "</S>", "<UNK>"]
words = st.one_of(st.sampled_from("abcdé猫"), st.text(min_size=1, max_size=4)).filter(
    lambda word: (
        word.split() == [word] and word not in RESERVED and not any("\ud800" <= letter <= "\udfff" for letter in word)
    )
)
texts = st.lists(st.lists(words, max_size=6), max_size=12).filter(any)


@given(texts, st.integers(1, 3), st.none() | st.integers(4, 8))
def test_count_is_the_naive_one(text: list[list[str]], min_count: int, max_vocab: int | None) -> None:
    tokens = [token for sentence in text for token in sentence]
    wanted = [word for word in sorted(set(tokens)) if tokens.count(word) >= min_count]
    wanted = sorted(wanted, key=tokens.count, reverse=True)  # stable: equal counts stay sorted
    if not wanted:
        with pytest.raises(InputValueError, match="`min_count` must leave a word"):
            Vocabulary.count(text, min_count=min_count, max_vocab=max_vocab)
        return
    wanted = (RESERVED + wanted)[:max_vocab]
    vocabulary, counts = Vocabulary.count(iter(text), min_count=min_count, max_vocab=max_vocab)
    assert list(vocabulary.tokens) == wanted
    assert len(vocabulary) == len(wanted)
    assert counts.sentences == sum(len(sentence) > 0 for sentence in text)
    assert counts.tokens == len(tokens)
    assert counts.unknown == sum(token not in wanted for token in tokens)
    assert counts.positions == sum(len(sentence) + 1 for sentence in text if sentence)
    assert vocabulary.ids(tokens) == [wanted.index(token) if token in wanted else 2 for token in tokens]


def test_the_order_of_equal_counts_is_that_of_code_points() -> None:
    vocabulary, _ = Vocabulary.count([["é", "b", "Z", "猫", "b", "a"]])
    assert vocabulary.tokens == ("<S>", "</S>", "<UNK>", "b", "Z", "a", "é", "猫")


@given(words=st.lists(words, unique=True, max_size=20))
def test_saved_and_loaded_it_is_the_same(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.txt"
    vocabulary = Vocabulary(RESERVED + words)
    vocabulary.save(path)
    assert path.read_bytes().decode().split("\n") == [*RESERVED, *words, ""]  # a token a line, as bilm-tf reads it
    loaded = Vocabulary.load(path)
    assert loaded == vocabulary
    assert loaded.ids([*words, "never seen", "</S>"]) == [*range(3, 3 + len(words)), 2, 1]


def test_it_cannot_be_changed_and_is_short_to_see() -> None:
    tokens = [*RESERVED, "cat"]
    vocabulary = Vocabulary(tokens)
    tokens[3] = "dog"
    assert vocabulary.ids(["cat", "dog"]) == [3, 2]
    with pytest.raises(dataclasses.FrozenInstanceError):
        vocabulary.tokens = ()  # type: ignore[misc]
    assert repr(vocabulary) == "<Vocabulary of 4 tokens>"


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vocabulary.txt"
    Vocabulary([*RESERVED, "old"]).save(path)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Vocabulary([*RESERVED, "new"]).save(path)
    assert Vocabulary.load(path).tokens[3] == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["vocabulary.txt"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "must begin with <S>, </S>, <UNK>"),
        (["</S>", "<S>", "<UNK>", "the"], r"must begin with .* Received: \['</S>', '<S>', '<UNK>'\]"),
        ([*RESERVED, "a", "b", "a"], "must not hold a token twice. Received: 'a' as entry 6"),
        ([*RESERVED, "<UNK>"], "must not hold a token twice. Received: '<UNK>' as entry 4"),
        ([*RESERVED, "a", ""], "no empty ones. Received: '' as entry 5"),
        ([*RESERVED, "New York"], "without whitespace, .* Received: 'New York' as entry 4"),
        ([*RESERVED, "a\u2028"], r"without whitespace, .* Received: 'a\\u2028' as entry 4"),
        ([*RESERVED, "\ud800"], r"UTF-8 can encode. Received: '\\ud800' as entry 4"),
    ],
)
def test_what_is_no_vocabulary(tokens: list[str], message: str) -> None:
    with pytest.raises(InputValueError, match=message):
        Vocabulary(tokens)


@pytest.mark.parametrize("tokens", ["the cat", None, {"<S>", "</S>", "<UNK>"}, [*RESERVED, 5], [*RESERVED, b"a"]])
def test_what_are_no_tokens(tokens: Any) -> None:
    with pytest.raises(InputTypeError, match=r"`tokens` must (be a list of|hold) strings"):
        Vocabulary(tokens)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must begin with <S>, </S>, <UNK>"),
        ("</S>\n<S>\n<UNK>\nthe\n", "must begin with"),
        ("<S>\n</S>\n<UNK>\na\n\n", "no empty ones. Received: '' as entry 5"),
        ("<S>\n</S>\n<UNK>\na\na\n", "twice. Received: 'a' as entry 5"),
    ],
)
def test_what_is_no_vocabulary_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputValueError, match=rf"^.*words\.txt .*{message}"):
        Vocabulary.load(path)


def test_a_vocabulary_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResourceNotFoundError, match=r"words\.txt"):
        Vocabulary.load(tmp_path / "words.txt")


@pytest.mark.parametrize("text", [[], [[]], [[], []]])
def test_a_text_without_tokens(text: list[list[str]]) -> None:
    with pytest.raises(InputValueError, match="must have a token at least"):
        Vocabulary.count(text)


@pytest.mark.parametrize("token", RESERVED)
def test_a_text_with_a_token_that_is_no_word_names_the_line(token: str) -> None:
    with pytest.raises(InputValueError, match=f"must not hold .* Received: '{token}' in line 3 "):
        Vocabulary.count([["a"], [], ["a", token]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"min_count": 0}, InputValueError, "`min_count` must be at least 1"),
        ({"min_count": 1.5}, InputTypeError, "`min_count` must be an integer"),
        ({"min_count": 3}, InputValueError, "`min_count` must leave a word .* most frequent word comes 2 times"),
        ({"max_vocab": 3}, InputValueError, "`max_vocab` must be at least 4"),
        ({"max_vocab": True}, InputTypeError, "`max_vocab` must be an integer"),
    ],
)
def test_wrong_arguments_of_count(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Vocabulary.count([["a", "b", "a"]], **arguments)


def test_sentences_that_were_not_split() -> None:
    with pytest.raises(InputTypeError, match="`sentences` must hold lists of tokens"):
        Vocabulary.count(["the cat sat"])
