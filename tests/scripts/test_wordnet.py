"""scripts/wordnet.py: what it reads in a gloss, how it tokenises, which split is whose, and which files it refuses."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputValueError, ResourceNotFoundError
from scripts import small_wordnet

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


@pytest.mark.parametrize(
    ("gloss", "definition", "examples"),
    [
        ("a small cat", "a small cat", ()),
        ('having wings; "a bird"', "having wings", ("a bird",)),
        ('fast; or hasty; "a run"; "it, too, ran; far"', "fast; or hasty", ("a run", "it, too, ran; far")),
        # Marks of the definition's own.
        ('(as in "on foot") walking; "he came"', '(as in "on foot") walking', ("he came",)),
        ('a call (e.g., "hey"; "you") to stop', 'a call (e.g., "hey"; "you") to stop', ()),
        ('a job; as in the phrase "on duty"; "at work"', 'a job; as in the phrase "on duty"', ("at work",)),
        # Other marks than a semicolon before the first example, and none between examples.
        ('to fold, "fold it"', "to fold", ("fold it",)),
        ('from all sides: "they came"', "from all sides", ("they came",)),
        ('to eat:"eat up" "eat on"', "to eat", ("eat up", "eat on")),
        ('to go; "he goes", "go on": "go"', "to go", ("he goes", "go on", "go")),
        # Authors stand outside of the quotation marks.
        ('dim; "the dim light"- A. Writer; "a dim hall" --Another', "dim", ("the dim light", "a dim hall")),
        # Missing marks: at the end, at the beginning, and between two examples.
        ('new; "a new hat', "new", ("a new hat",)),
        ('drop; "drop a hint"; drop names"', "drop", ("drop a hint",)),
        ('new; "a new hat; "a new coat"', "new", ("a new hat", "a new coat")),
        ('close in; it enclosed him"', 'close in; it enclosed him"', ()),
        # Brackets that are never closed, and some in an example.
        ('(of a ball; "in play"', "(of a ball", ("in play",)),
        ('red; "a (very) red dot"', "red", ("a (very) red dot",)),
        ('good;"a good one" ;  ', "good", ("a good one",)),
        ('empty; ""; "full"', "empty", ("full",)),
    ],
)
def test_gloss(gloss: str, definition: str, examples: tuple[str, ...]) -> None:
    import wordnet

    assert wordnet.parse_gloss(gloss) == (definition, examples)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wordnet

    folder = small_wordnet.write(
        tmp_path,
        [
            (43, "v", 'fall as water | or ice; "it rains"'),
            (44, "s", "worn out"),
            (3, "n", "that which is"),
            (2, "r", "often"),
            (0, "a", "able"),
            (5, "n", "a beast"),
        ],
    )
    small_wordnet.accept(monkeypatch, folder)
    assert wordnet.read_synsets(folder) == [
        ("00001002-n", 3, "that which is", ()),
        ("00001005-n", 5, "a beast", ()),
        ("00001000-v", 43, "fall as water | or ice", ("it rains",)),
        ("00001001-a", 44, "worn out", ()),
        ("00001004-a", 0, "able", ()),
        ("00001003-r", 2, "often", ()),
    ]


def test_names_of_lexicographer_files() -> None:
    import wordnet

    names = wordnet.LEXICOGRAPHER_FILES
    # As the manual page lexnames(5WN) numbers them.
    numbered = {0: "adj.all", 3: "noun.Tops", 11: "noun.event", 18: "noun.person", 28: "noun.time", 29: "verb.body"}
    numbered |= {1: "adj.pert", 2: "adv.all", 34: "verb.consumption", 43: "verb.weather", 44: "adj.ppl"}
    assert len(names) == len(set(names)) == 45
    assert {number: names[number] for number in numbered} == numbered


def test_splits_are_fixed() -> None:
    import wordnet

    # sha256sum's hash of the definition, modulo 100.
    remainders = {"a cat": 14, "extremely": 50, "a green bat": 79, "an small owl": 80, "a river": 83, "in a cat": 88}
    remainders |= {"a green ant": 89, "the blue cow": 90, "a hen": 97, "a big dog": 99}
    for definition, remainder in remainders.items():
        assert wordnet.fixed_hash(definition) % 100 == remainder
        split = "train" if remainder < 80 else "dev" if remainder < 90 else "test"
        assert wordnet.Synset("00001000-n", 3, definition, ()).split == split


def test_no_sentence_is_in_two_splits() -> None:
    import wordnet

    synsets = [
        wordnet.Synset("1-n", 3, "a cat", ("it ran", "it sat", "in a cat", "a pot")),  # train
        wordnet.Synset("2-n", 4, "a dog", ("it ran", "it slept", "it hid")),  # train
        wordnet.Synset("3-n", 5, "a cat", ()),
        wordnet.Synset("4-n", 6, "a river", ("it sat", "it flows", "a dog")),  # dev
        wordnet.Synset("5-n", 7, "a hen", ("it flows", "it swims")),  # test
    ]
    splits = get_args(wordnet.Split)
    texts = {split: [" ".join(tokens) for tokens in wordnet.sentences(synsets, split)] for split in splits}
    everything = [sentence for text in texts.values() for sentence in text]
    assert len(everything) == len(set(everything))
    assert texts == {
        "train": ["a cat", "it ran", "in a cat", "a pot", "it slept", "it hid"],
        "dev": ["a river", "it sat", "a dog"],
        "test": ["a hen", "it flows", "it swims"],
    }


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the cat's `meow' isn't loud", "the cat 's ` meow ' is n't loud"),
        ("(of numbers) 3.14, 10,000 or 1st; 3-D", "( of numbers ) 3.14 , 10,000 or 1st ; 3-D"),
        ("e.g. in the U.S.; the end.", "e.g. in the U.S. ; the end ."),
        ("five o'clock; a well-known man's--yes...", "five o'clock ; a well-known man 's -- yes ..."),
        ("Can't he've known? they'd; dogs' tails", "Ca n't he 've known ? they 'd ; dogs ' tails"),
        ("na\u00efve \u00c4rzte, 5\u20ac", "na\u00efve \u00c4rzte , 5 \u20ac"),
        ("  ", ""),
    ],
)
def test_tokens(text: str, tokens: str) -> None:
    import wordnet

    assert wordnet.tokenize(text) == tokens.split()


@given(st.text() | st.text("ab1.,'-nt s`(", max_size=30))
def test_tokens_are_the_text_without_its_whitespace(text: str) -> None:
    import wordnet

    tokens = wordnet.tokenize(text)
    assert "".join(tokens) == "".join(text.split())
    assert all(len(token.split()) == 1 for token in tokens)


def test_another_version_is_refused(tmp_path: Path) -> None:
    import wordnet

    folder = small_wordnet.write(tmp_path, [(3, "n", "that which is")])
    with pytest.raises(InputValueError, match=r"(?s)WordNet 3\.0, whose data\.noun has the sha256 fea17d.*data\.noun"):
        wordnet.read_synsets(folder)


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wordnet

    with pytest.raises(ResourceNotFoundError, match=r"`folder` must have .*apt-get install wordnet-base"):
        wordnet.wordnet_folder(tmp_path)
    folder = small_wordnet.write(tmp_path, [(3, "n", "that which is")])
    assert wordnet.wordnet_folder(folder) == folder
    small_wordnet.accept(monkeypatch, folder)
    (folder / "data.adv").unlink()
    with pytest.raises(ResourceNotFoundError, match=r"no '.*data\.adv'"):
        wordnet.read_synsets(folder)


def test_as_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import wordnet

    folder = small_wordnet.write(tmp_path, [(5, "n", 'a cat; "it ran"'), (5, "n", "a river"), (5, "n", "a cat")])
    small_wordnet.accept(monkeypatch, folder)
    monkeypatch.setattr(sys, "argv", ["wordnet.py", "--wordnet", str(folder)])
    wordnet.main()
    output = capsys.readouterr().out
    assert "3 synsets, 1 examples" in output
    assert "train  2 synsets; text 2 sentences, 4 words" in output
    assert "dev    1 synsets; text 1 sentences, 2 words" in output


def test_an_error_is_a_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, SCRIPTS / "wordnet.py", "--wordnet", tmp_path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: `folder` must have")
