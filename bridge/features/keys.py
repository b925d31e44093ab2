"""Sentences as names of HDF5 datasets, so that `file["the cat sat"]` is that sentence's features.

HDF5 takes `/` for the path of a group and `.` for the group itself, and ends a name at NUL. These are written as in
a URL, and so is a `%` where it would be read as one of them; every other sentence is its own key.
"""

from __future__ import annotations

import re

ESCAPED = re.compile("[/\0]|%(?=2F|2E|00|25)")
ESCAPES = re.compile("%(2F|2E|00|25)")


def encode_key(sentence: str) -> str:
    """The key of a sentence."""
    if sentence == ".":
        return "%2E"
    return ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", sentence)


def decode_key(key: str) -> str:
    """The sentence of a key: the inverse of `encode_key`."""
    return ESCAPES.sub(lambda match: chr(int(match[1], 16)), key)
