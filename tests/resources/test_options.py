"""`options.json`: what is accepted, and that every fault of it is named."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import options_dict

from bridge.errors import CheckpointError
from bridge.resources.options import ElmoOptions, read_options

KEYS = [
    *(f"lstm.{key}" for key in options_dict()["lstm"]),
    *(f"char_cnn.{key}" for key in options_dict()["char_cnn"]),
    "char_cnn.embedding.dim",
]
GONE = object()


def changed(key: str, value: object) -> dict[str, Any]:
    """Good options with one key replaced, or deleted when the value is GONE."""
    options = options_dict()
    *sections, last = key.split(".")
    place: dict[str, Any] = options
    for section in sections:
        place = place[section]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return options


def read(folder: Path, content: object) -> ElmoOptions:
    path = folder / "options.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_options(path, "FILE (from ORIGIN)")


def refused(folder: Path, content: object) -> str:
    """The message about bad options: it names the file, its origin and the remedy."""
    with pytest.raises(CheckpointError) as error:
        read(folder, content)
    assert isinstance(error.value, ValueError)
    message = str(error.value)
    assert message.startswith("`options_file` must ")
    assert "Received: FILE (from ORIGIN), " in message
    return message


def test_reads_every_value_and_ignores_what_only_training_uses(tmp_path: Path) -> None:
    options = read(tmp_path, options_dict() | {"n_epochs": 10, "bidirectional": True})
    assert json.loads(options.model_dump_json()) == json.loads(json.dumps(options_dict()))
    assert (options.num_layers, options.output_dim, options.char_cnn.n_filters) == (3, 12, 15)
    assert hash(options) == hash(read(tmp_path, options_dict()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lstm.cell_clip", None),
        ("lstm.proj_clip", 3),
        ("lstm.proj_clip", 0.5),
        ("lstm.n_layers", 1),
        ("char_cnn.n_highway", 0),
        ("char_cnn.activation", "tanh"),
        ("char_cnn.n_characters", 261),
        ("char_cnn.filters", [[50, 1]]),
        ("char_cnn.n_tokens_vocab", "any"),
    ],
)
def test_accepts(key: str, value: object, tmp_path: Path) -> None:
    assert read(tmp_path, changed(key, value))


@pytest.mark.parametrize("key", ["lstm", "char_cnn", *KEYS])
def test_every_key_is_needed(key: str, tmp_path: Path) -> None:
    assert f"- {key}: missing" in refused(tmp_path, changed(key, GONE))


COUNTS = ("lstm.dim", "lstm.projection_dim", "lstm.n_layers", "char_cnn.embedding.dim")
NOT_INTEGERS: tuple[object, ...] = (2.0, "2", True, None, [2])
LAYERS = ("lstm.n_layers", "char_cnn.n_highway")
CLIPS = ("lstm.cell_clip", "lstm.proj_clip")


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        *((key, value, "greater than 0") for key in COUNTS for value in (0, -1)),
        *((key, value, "valid integer") for key in (*COUNTS, *LAYERS) for value in NOT_INTEGERS),
        *((key, 10**9, "less than or equal to 100") for key in LAYERS),
        *((key, 10**99, "less than or equal to") for key in COUNTS),
        *((key, -0.5, "greater than or equal to 0") for key in CLIPS),
        *((key, value, "finite number") for key in CLIPS for value in (math.inf, math.nan)),
        *((key, value, "valid number") for key in CLIPS for value in ("3", True)),
        ("lstm.use_skip_connections", False, "must be true: AllenNLP runs only biLMs with residual connections"),
        ("lstm.use_skip_connections", 1, "valid boolean"),
        ("char_cnn.activation", "sigmoid", "'relu' or 'tanh'"),
        ("char_cnn.max_characters_per_token", 51, "must be 50"),
        ("char_cnn.max_characters_per_token", 50.0, "valid integer"),
        *(("char_cnn.n_characters", value, "must be 261 or 262") for value in (0, 260, 263)),
        ("char_cnn.filters", [], "must list at least one [width, number of filters]"),
        ("char_cnn.filters", {"1": 2}, "valid array"),
        *((section, value, "an object") for section in ("lstm", "char_cnn.embedding") for value in (None, 3, "x")),
    ],
)
def test_refuses(key: str, value: object, rule: str, tmp_path: Path) -> None:
    message = refused(tmp_path, changed(key, value))
    (line,) = (line for line in message.splitlines() if line.startswith("  - "))
    assert line.startswith(f"  - {key}: ")
    assert f" {rule}" in line
    assert "Value error" not in line
    assert line.endswith(f"(received {value!r:.80})")
    assert message.endswith("Use the options file that came with the weights.")


@pytest.mark.parametrize(
    ("filters", "fault"),
    [
        ([[51, 4]], "filters.0.0: Input should be less than or equal to 50 (received 51)"),
        ([[1, 2], [0, 4]], "filters.1.0: Input should be greater than 0 (received 0)"),
        ([[1, 2], [2, -4]], "filters.1.1: Input should be greater than 0 (received -4)"),
        ([[1]], "filters.0.1: missing"),
        ([[1, 2, 3]], "filters.0: Tuple should have at most 2 items"),
        ([1, 2], "filters.0: Input should be a valid array (received 1)"),
    ],
)
def test_refuses_filters(filters: object, fault: str, tmp_path: Path) -> None:
    assert fault in refused(tmp_path, changed("char_cnn.filters", filters))


def test_all_faults_in_one_message(tmp_path: Path) -> None:
    options = changed("lstm.dim", "10")
    options["char_cnn"] |= {"activation": "sin", "n_highway": -1}
    del options["lstm"]["cell_clip"]
    message = refused(tmp_path, options)
    for key in ("lstm.dim", "lstm.cell_clip", "char_cnn.activation", "char_cnn.n_highway"):
        assert f"- {key}: " in message
    assert message.count("  - ") == 4


GOOD = json.dumps(options_dict()).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["line 1 column 0", "begins with b''"]),
        (GOOD[:100], ["EOF", "line 1 column 100"]),
        (GOOD.replace(b", ", b",\n", 3).replace(b"6", b"6,"), ["line 2 column"]),
        (b"<html>404</html>", ["line 1 column 1", "<html>404"]),
        (b"\xef\xbb\xbf" + GOOD, ["line 1 column 1", r"\xef\xbb\xbf"]),
        (GOOD.decode().encode("utf-16"), ["line 1 column 1", r"\xff\xfe"]),
        (b"[" * 10**5, ["recursion limit"]),
        (b"[]", ["the whole file: Input should be an object"]),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), ["is an HDF5 file", "swapped"]),
    ],
    ids=["empty", "cut", "typo", "HTML", "BOM", "UTF-16", "deep", "list", "HDF5"],
)
def test_not_json(content: bytes, words: list[str], tmp_path: Path) -> None:
    message = refused(tmp_path, content)
    for word in words:
        assert word in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@given(key=st.sampled_from(["lstm", "char_cnn", *KEYS]), value=json_values | st.just(GONE))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_change_is_accepted_or_named(key: str, value: object, tmp_path: Path) -> None:
    try:
        options = read(tmp_path, changed(key, value))
    except CheckpointError as error:
        faults = [line for line in str(error).splitlines() if line.startswith("  - ")]
        named = all(fault.startswith(f"  - {key}") for fault in faults)
        assert faults, "an error without a fault"
        assert named or "Invalid JSON" in faults[0]
    else:
        assert read(tmp_path, json.loads(options.model_dump_json())) == options


@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode(errors="surrogatepass")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    refused(tmp_path, content)
