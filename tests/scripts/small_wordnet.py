"""A WordNet of a few synsets, in the format of wndb(5WN)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

LICENCE = "  1 This is no database of Princeton's, but it has lines like theirs | and a gloss in none of them.  \n"
FILES = {"n": "data.noun", "v": "data.verb", "a": "data.adj", "s": "data.adj", "r": "data.adv"}

# Lexicographer file, type, and words that tell it from the others.
KINDS = [(5, "n", "beast tail fur paw"), (13, "n", "bread soup cheese pie"), (38, "v", "run walk climb crawl")]
FILLERS = ["of", "the", "one", "that", "in", "by", "such", "like", "with", "some", "any", "often"]


def synsets() -> list[tuple[int, str, str]]:
    """240 of them, in three lexicographer files that have words of their own."""
    generator = random.Random(5)
    made: dict[str, tuple[int, str, str]] = {}
    while len(made) < 240:
        number, synset_type, words = generator.choice(KINDS)
        definition = " ".join([*generator.choices(FILLERS, k=3), *generator.sample(words.split(), 2)])
        made[definition] = (number, synset_type, f'{definition}; "an example of it"')
    return list(made.values())


def line(offset: int, lexicographer_file: int, synset_type: str, gloss: str) -> str:
    """A synset of two words and a pointer; verbs have frames before their gloss."""
    frames = " 01 + 02 00" if synset_type == "v" else ""
    return (
        f"{offset:08} {lexicographer_file:02} {synset_type} 02 some_word 0 other(a) 1 001 @ 00000042 n 0000{frames} | "
        f"{gloss}  \n"
    )


def write(folder: Path, synsets: Iterable[tuple[int, str, str]]) -> Path:
    """Writes the four files: synsets are lexicographer file, type and gloss."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = dict.fromkeys(FILES.values(), LICENCE)
    for number, (lexicographer_file, synset_type, gloss) in enumerate(synsets):
        contents[FILES[synset_type]] += line(1000 + number, lexicographer_file, synset_type, gloss)
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="ascii")
    return folder


def accept(patch: pytest.MonkeyPatch, hashes: Mapping[str, str] | Path) -> None:
    """Lets `wordnet` take these files for those of WordNet 3.0."""
    import wordnet

    if isinstance(hashes, Path):
        hashes = {name: hashlib.sha256((hashes / name).read_bytes()).hexdigest() for name in FILES.values()}
    patch.setattr(wordnet, "SHA256", hashes)
