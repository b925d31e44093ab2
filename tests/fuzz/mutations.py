"""Mutations of bytes and of JSON: what a bad disk, a broken download or an unkind stranger does to a file."""

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

# What overflows, and what readers take for "undefined" or "unlimited", as little-endian integers.
INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
# Where HDF5's own structures begin, Parquet's footer ends and a ZIP archive keeps its lists.
STRUCTURES = re.compile(
    rb"\x89HDF|TREE|HEAP|SNOD|OHDR|OCHK|FRHP|FHDB|FHIB|BTHD|BTLF|BTIN|EAHD|EAIB|FAHD|FADB|GCOL|PAR1|PK\x01\x02|PK\x05\x06|PK\x03\x04"
)


def mutated_bytes(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """One or several mutations of a file's bytes; returns what was done, too."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        mutation = rng.choice(BYTE_MUTATIONS)
        data = mutation(rng, data)
        done.append(mutation.__name__.strip("_"))
    return data, " and ".join(done)


def _place(rng: random.Random, data: bytes | bytearray) -> int:
    """Anywhere, and as often near the structures around the data, which are few bytes of most files."""
    structures = [match.start() for match in STRUCTURES.finditer(data)]
    if structures and rng.random() < 0.6:
        return min(len(data) - 1, rng.choice(structures) + rng.randrange(rng.choice((16, 64, 256))))
    return rng.randrange(max(1, len(data)))


def _length(rng: random.Random, data: bytes) -> int:
    return rng.choice((1, 4, 8, 64, 512, max(1, len(data) // 3)))


def _flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[_place(rng, changed)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite_a_number(rng: random.Random, data: bytes) -> bytes:
    size, place = rng.choice((1, 2, 4, 8)), _place(rng, data)
    number = rng.choice([*INTERESTING, len(data), len(data) - 1, rng.getrandbits(64)])
    return data[:place] + (number % 256**size).to_bytes(size, "little") + data[place + size :]


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice((_place(rng, data), len(data) - rng.randrange(min(64, len(data) + 1))))]


def _append(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice((bytes(64), rng.randbytes(rng.randrange(1, 600)), data))


def _zero_a_range(rng: random.Random, data: bytes) -> bytes:
    place, length = _place(rng, data), _length(rng, data)
    length = min(length, len(data) - place)
    return data[:place] + bytes(length) + data[place + length :]


def _scramble_a_range(rng: random.Random, data: bytes) -> bytes:
    place, length = _place(rng, data), _length(rng, data)
    length = min(length, len(data) - place)
    return data[:place] + rng.randbytes(length) + data[place + length :]


def _remove_a_block(rng: random.Random, data: bytes) -> bytes:
    place = _place(rng, data)
    return data[:place] + data[place + _length(rng, data) :]


def _duplicate_a_block(rng: random.Random, data: bytes) -> bytes:
    source, target = _place(rng, data), _place(rng, data)
    block = data[source : source + _length(rng, data)]
    return data[:target] + block + data[target + (len(block) if rng.random() < 0.7 else 0) :]


def _swap_blocks(rng: random.Random, data: bytes) -> bytes:
    first, second = sorted((_place(rng, data), _place(rng, data)))
    length = min(_length(rng, data), second - first, len(data) - second)
    blocks = data[first : first + length], data[second : second + length]
    return data[:first] + blocks[1] + data[first + length : second] + blocks[0] + data[second + length :]


def _shift_a_line(rng: random.Random, data: bytes) -> bytes:
    """Of text: lines are doubled, lost, joined, indented or moved."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    line = lines.pop(place)
    kind = rng.randrange(4)
    if kind == 0:
        lines[place:place] = [line, line]
    elif kind == 1:
        lines.insert(rng.randrange(len(lines) + 1), line)
    elif kind == 2:
        lines.insert(place, rng.choice((b" ", b"\t", b"[", b"#", b"= ", b"${", b"\x00", b"\xef\xbb\xbf")) + line)
    return b"\n".join(lines)


BYTE_MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    _flip_bits,
    _flip_bits,
    _overwrite_a_number,
    _overwrite_a_number,
    _truncate,
    _append,
    _zero_a_range,
    _scramble_a_range,
    _remove_a_block,
    _duplicate_a_block,
    _swap_blocks,
    _shift_a_line,
]


class Raw(str):
    """Stands in a JSON value for text that is written as it is."""


NASTY_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 50, 50.0, 0.5, -0.0, 1e-320, 1e308, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 10**30,
    "", "0", "12", "NaN", "\ud800", "\0", "a" * 10_000, "../../etc/passwd", "relu", "tanh",
    [], [[]], {}, [[1, 32]], [0], {"": ""}, Raw("NaN"), Raw("Infinity"), Raw("1e999"), Raw("01"), Raw(""), Raw("'a'"),
    Raw("[" * 100_000 + "]" * 100_000), Raw('{"a":' * 50_000 + "1" + "}" * 50_000), Raw("9" * 5000),
]  # fmt: skip


def mutated_json(rng: random.Random, text: str) -> tuple[str, str]:
    """One or several mutations of the values, types, keys or nesting of JSON; returns what was done, too."""
    root = {"": json.loads(text)}
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        container, key = rng.choice(list(_places(root)))
        kind = rng.choice(("replace", "replace", "scale", "delete", "rename", "wrap", "swap", "add"))
        value = container[key]
        if kind == "scale" and isinstance(value, int | float) and not isinstance(value, bool):
            container[key] = rng.choice(
                (value + 1, value - 1, -value, value * 2, value * 10**6, float(value), str(value))
            )
        elif kind == "delete" and container is not root:
            del container[key]
        elif kind == "rename" and isinstance(container, dict) and container is not root:
            container[rng.choice((key.upper(), key + " ", "", key[::-1], "__class__"))] = container.pop(key)
        elif kind == "wrap":
            container[key] = rng.choice(([value], {"value": value}, [value, copy.deepcopy(value)]))
        elif kind == "swap":
            other, other_key = rng.choice(list(_places(root)))
            if not (_holds(value, other) or _holds(other[other_key], container)):
                container[key], other[other_key] = other[other_key], value
        elif kind == "add" and isinstance(value, dict):
            value[rng.choice(("new", "", "_meta", "class_name"))] = copy.deepcopy(rng.choice(NASTY_VALUES))
        elif kind == "add" and isinstance(value, list):
            value.append(copy.deepcopy(rng.choice([*value, *NASTY_VALUES])))
        else:
            kind = "replace"
            container[key] = copy.deepcopy(rng.choice(NASTY_VALUES))
        done.append(f"{kind} {key!r}")
    return _written(root[""]), " and ".join(done)


def _places(container: Any) -> Any:
    for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
        yield container, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _holds(value: Any, container: Any) -> bool:
    return value is container or (
        isinstance(value, dict | list) and any(inner[key] is container for inner, key in _places(value))
    )


def _written(value: Any) -> str:
    """As JSON with what `json.dumps` would escape or refuse."""
    raw: list[str] = []

    def marked(value: Any) -> Any:
        if isinstance(value, Raw):
            raw.append(str(value))
            return f"@raw{len(raw) - 1}@"
        if isinstance(value, dict):
            return {key: marked(inner) for key, inner in value.items()}
        return [marked(inner) for inner in value] if isinstance(value, list) else value

    text = json.dumps(marked(value))
    return re.sub(r'"@raw(\d+)@"', lambda match: raw[int(match[1])], text)
