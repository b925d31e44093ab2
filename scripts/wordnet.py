"""WordNet 3.0's definitions and example sentences as token lists, from Debian's package `wordnet-base`.

As a program it fetches the database and says what is in it. The text is read where it is, and is part of nothing that
this project ships: its licence is in the first lines of each of its files.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from bridge.errors import BridgeError, InputValueError, ResourceNotFoundError

PACKAGE = "wordnet-base"
INSTALLED = Path("/usr/share/wordnet")
CACHE = Path("out/wordnet/package")
# Numbers that were measured on WordNet 3.0 hold for these very files.
SHA256 = {
    "data.noun": "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2",
    "data.verb": "adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2",
    "data.adj": "c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7",
    "data.adv": "444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139",
}
PART_OF_SPEECH = {"data.noun": "n", "data.verb": "v", "data.adj": "a", "data.adv": "r"}
# The names of the lexicographer files 00 to 44, as in lexnames(5WN).
_NOUNS = (
    "Tops act animal artifact attribute body cognition communication event feeling food group location motive object "
    "person phenomenon plant possession process quantity relation shape state substance time"
)
_VERBS = (
    "body change cognition communication competition consumption contact creation emotion motion perception possession "
    "social stative weather"
)
LEXICOGRAPHER_FILES = (
    *("adj.all", "adj.pert", "adv.all"),
    *(f"noun.{name}" for name in _NOUNS.split()),
    *(f"verb.{name}" for name in _VERBS.split()),
    "adj.ppl",
)
Split = Literal["train", "dev", "test"]

_CLITIC = r"'(?:s|re|ve|ll|d|m)\b"
_TOKEN = re.compile(
    rf"""
    (?:[^\W\d_]\.){{2,}}                     # e.g.  U.S.
    | \d+(?:[.,]\d+)+                        # 3.14  10,000
    | n't\b | {_CLITIC}
    | \w+?(?=n't\b)                          # do | n't
    | \w+(?:-\w+|(?!{_CLITIC})'\w+)*         # well-known  o'clock  cat | 's
    | --+ | \.\.+ | \S
    """,
    re.VERBOSE,
)
_BRACKETS = re.compile(r"\([^()]*\)")


class Synset(NamedTuple):
    """What WordNet says of one meaning.

    Attributes:
        key: its place in the database, offset and part of speech (`n`, `v`, `a`, `r`): `"00001740-n"`.
        lexicographer_file: 0 to 44; `LEXICOGRAPHER_FILES` has the names.
        definition: of the meaning.
        examples: sentences or phrases, often none.
    """

    key: str
    lexicographer_file: int
    definition: str
    examples: tuple[str, ...]

    @property
    def split(self) -> Split:
        """Whether it is for training, for choosing, or for testing: 80, 10 and 10 of 100, fixed for ever.

        By the definition, so that meanings with the same definition, of which there are 1,600, go together.
        """
        number = fixed_hash(self.definition) % 100
        return "train" if number < 80 else "dev" if number < 90 else "test"


def fixed_hash(text: str) -> int:
    """The same number for the same text, in every process and on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def tokenize(text: str) -> list[str]:
    """Words, numbers and punctuation marks as tokens. Nothing but whitespace is lost, and case is kept.

    Example:
        >>> tokenize("the cat's well-known `meow' isn't loud (e.g., 2.5 dB)")
        ['the', 'cat', "'s", 'well-known', '`', 'meow', "'", 'is', "n't", 'loud', '(', 'e.g.', ',', '2.5', 'dB', ')']
    """
    return _TOKEN.findall(text)


def parse_gloss(gloss: str) -> tuple[str, tuple[str, ...]]:
    """Splits a gloss into the definition and the examples behind it.

    An example begins with a quotation mark after `;`, `:` or `,`. Other quotation marks, and those in brackets, are
    the definition's own. What stands between examples, such as the name of an author, is left out. A mark that is
    missing costs no more than the example it belongs to.
    """
    inside = [match.span() for match in _BRACKETS.finditer(gloss)]
    examples: list[str] = []
    definition: str | None = None
    begin, within = 0, False  # of the piece that is being read, and whether it is an example
    for position in (match.start() for match in re.finditer('"', gloss)):
        piece = gloss[begin:position].strip()
        if within:
            examples.append(piece)
            within = piece.endswith(";")  # this example was never closed: the mark opens the next
        elif definition is not None:
            within = not piece or piece[-1] in ";:,"
        elif piece.endswith((";", ":", ",")) and not any(start < position < end for start, end in inside):
            definition, within = piece, True
        else:
            continue  # a quotation inside the definition
        begin = position + 1
    if definition is None:
        definition = gloss
    elif within:
        examples.append(gloss[begin:])
    return _strip(definition), tuple(filter(None, map(_strip, examples)))


def _strip(text: str) -> str:
    return text.strip().rstrip(";:,").rstrip()


def wordnet_folder(folder: Path | None = None, cache: Path = CACHE) -> Path:
    """The folder with WordNet's `data.noun` and so on: the one given, the system's, or one from Debian's package.

    Args:
        folder: where it is. By default `/usr/share/wordnet` if that is there, and else the package's, which `apt-get`
            downloads and `dpkg-deb` unpacks; neither needs the rights of an administrator.
        cache: where the unpacked package is kept for the next time.

    Raises:
        ResourceNotFoundError: it is not there, or can't be fetched.
    """
    remedy = f"Install it with `sudo apt-get install {PACKAGE}`, or name a folder that has WordNet 3.0's `data.noun`."
    if folder is not None:
        if not (folder / "data.noun").is_file():
            raise ResourceNotFoundError(
                f"`folder` must have WordNet's `data.noun`. Received: {str(folder)!r}, which has not. {remedy}"
            )
        return folder
    unpacked = cache / INSTALLED.relative_to("/")
    for known in (INSTALLED, unpacked):
        if (known / "data.noun").is_file():
            return known
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ResourceNotFoundError(
                f"`{program}` must be there to fetch Debian's package {PACKAGE}. Received: no such program. {remedy}"
            )
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as temporary:
        _run(["apt-get", "download", PACKAGE], Path(temporary), f"Try `sudo apt-get update` first. {remedy}")
        package = next(Path(temporary).glob("*.deb"))
        _run(["dpkg-deb", "--extract", package.name, "package"], Path(temporary), remedy)
        shutil.rmtree(cache, ignore_errors=True)
        (Path(temporary) / "package").rename(cache)
    return wordnet_folder(unpacked)


def _run(command: list[str], folder: Path, remedy: str) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ResourceNotFoundError(
            f"`{' '.join(command)}` must give WordNet. Received: exit status {result.returncode}, "
            f"{result.stderr.strip()!r}. {remedy}"
        )


def read_synsets(folder: Path) -> list[Synset]:
    """All synsets of WordNet 3.0: nouns, verbs, adjectives, adverbs, each in the order of its file.

    Raises:
        ResourceNotFoundError: a file is not there.
        InputValueError: a file is not that of WordNet 3.0.
    """
    synsets: list[Synset] = []
    for name, part_of_speech in PART_OF_SPEECH.items():
        path = folder / name
        if not path.is_file():
            raise ResourceNotFoundError(f"`folder` must have {', '.join(SHA256)}. Received: no {str(path)!r}.")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise InputValueError(
                f"`folder` must have WordNet 3.0, whose {name} has the sha256 {SHA256[name]}. Received: {str(path)!r}, "
                "which is another version, or damaged. Name the folder of an unpacked Debian package "
                f"{PACKAGE} of the version 3.0, or none to have it fetched."
            )
        for line in content.decode("ascii").splitlines():
            if not line.startswith("  "):  # the licence
                fields, _, gloss = line.partition(" | ")
                offset, number, _ = fields.split(" ", 2)
                synsets.append(Synset(f"{offset}-{part_of_speech}", int(number), *parse_gloss(gloss)))
    return synsets


def sentences(synsets: Iterable[Synset], split: Split) -> Iterator[list[str]]:
    """A split's definitions and examples as text for a language model, in a fixed order, each of them once.

    What also occurs in a later split (of training, dev, test) is left to that: no sentence of one is in another.
    """
    synsets = list(synsets)
    later = get_args(Split)[get_args(Split).index(split) + 1 :]
    seen = {tuple(tokens) for synset in synsets if synset.split in later for tokens in _tokens(synset)}
    for synset in synsets:
        if synset.split == split:
            for tokens in _tokens(synset):
                if tuple(tokens) not in seen:
                    seen.add(tuple(tokens))
                    yield tokens


def _tokens(synset: Synset) -> Iterator[list[str]]:
    return map(tokenize, (synset.definition, *synset.examples))


def main() -> None:
    """Prints how many there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wordnet", type=Path, help=f"folder of WordNet 3.0 (default: {INSTALLED}, or the package's)")
    folder = wordnet_folder(parser.parse_args().wordnet)
    synsets = read_synsets(folder)
    print(f"{folder}: {len(synsets):,} synsets, {sum(len(synset.examples) for synset in synsets):,} examples")
    counts = Counter(synset.split for synset in synsets)
    for split in get_args(Split):
        text = list(sentences(synsets, split))
        print(f"{split:<6} {counts[split]:,} synsets; text {len(text):,} sentences, {sum(map(len, text)):,} words")


if __name__ == "__main__":
    try:
        main()
    except BridgeError as error:  # its message is written for users
        raise SystemExit(f"error: {error}") from None
