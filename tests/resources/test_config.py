"""`ElmoConfig.load`: which source wins, what an INI file may say, and what each mistake is answered."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bridge.errors
from bridge.errors import BridgeError, ConfigError, InputTypeError, ResourceNotFoundError
from bridge.resources.config import ElmoConfig

FILES = "options_file = o.json\nweight_file = w.hdf5\n"
DIGEST = "0123456789abcdef" * 4
PUBLISHED = "https://s3-us-west-2.amazonaws.com/allennlp/models/elmo"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `config.ini` and `environment.ini`."""
    monkeypatch.chdir(tmp_path)
    for name in ("config", "environment"):
        ini(tmp_path, f"[ELMO]\noptions_file = {name}.json\nweight_file = {name}.hdf5\n", f"{name}.ini")
    return tmp_path


def ini(folder: Path, text: str | bytes, name: str = "elmo.ini") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def message(error: pytest.ExceptionInfo[BaseException], *words: str) -> str:
    """The message, which must have those words and say what was received."""
    text = str(error.value)
    for word in ("Received: ", *words):
        assert word in text
    return text


ARGUMENTS = {"options_file": "arguments.json", "weight_file": "arguments.hdf5"}
VARIABLES = {"ELMO_OPTIONS_FILE": "environment.json", "ELMO_WEIGHT_FILE": "environment.hdf5"}
INI_VARIABLE = {"ELMO_CONFIG": "environment.ini"}


@pytest.mark.parametrize(
    ("arguments", "environment", "source", "origin"),
    [
        (ARGUMENTS, {}, "arguments", "the argument `options_file`"),
        (ARGUMENTS, VARIABLES, "arguments", "the argument `options_file`"),
        (ARGUMENTS, INI_VARIABLE, "arguments", "the argument `options_file`"),
        (ARGUMENTS | {"config": "config.ini"}, {}, "arguments", "the argument `options_file`"),
        ({"config": "config.ini"}, {}, "config", "config.ini, line 2"),
        ({"config": "config.ini"}, VARIABLES, "config", "config.ini, line 2"),
        ({"config": "config.ini"}, INI_VARIABLE, "config", "config.ini, line 2"),
        ({"config": Path("config.ini")}, {}, "config", "config.ini, line 2"),
        ({}, VARIABLES, "environment", "the environment variable ELMO_OPTIONS_FILE"),
        ({}, VARIABLES | {"ELMO_CONFIG": ""}, "environment", "the environment variable ELMO_OPTIONS_FILE"),
        ({}, INI_VARIABLE, "environment", "environment.ini, line 2"),
        ({}, dict.fromkeys(VARIABLES, "") | INI_VARIABLE, "environment", "environment.ini, line 2"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_one_source_wins_and_gives_both_files(
    arguments: dict[str, Any],
    environment: dict[str, str],
    source: str,
    origin: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = ElmoConfig.load(**arguments)
    assert Path(config.options_file).name == f"{source}.json"
    assert Path(config.weight_file).name == f"{source}.hdf5"
    assert config.options_origin == origin
    assert config.weight_origin == origin.replace("options", "weight").replace("OPTIONS", "WEIGHT").replace("2", "3")


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ({"options_file": "a"}, {}, ["given together", "no `weight_file`"]),
        ({"weight_file": "a"}, VARIABLES, ["given together", "no `options_file`"]),
        ({"weight_file": "a", "config": "config.ini"}, {}, ["given together", "no `options_file`"]),
        ({}, {"ELMO_OPTIONS_FILE": "a"}, ["set together", "no ELMO_WEIGHT_FILE"]),
        ({}, {"ELMO_WEIGHT_FILE": "a", "ELMO_OPTIONS_FILE": ""}, ["set together", "no ELMO_OPTIONS_FILE"]),
        ({}, VARIABLES | INI_VARIABLE, ["one source", "ELMO_CONFIG beside", "Unset"]),
        ({}, {"ELMO_WEIGHT_FILE": "a"} | INI_VARIABLE, ["one source", "ELMO_CONFIG beside", "Unset"]),
        ({"options_file": "", "weight_file": ""}, {}, ["`options_file`", "an empty string", "ELMO_CONFIG"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_never_one_file_from_each_of_two_sources(
    arguments: dict[str, Any], environment: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        ElmoConfig.load(**arguments)
    message(error, *words)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("environment", [{}, dict.fromkeys([*VARIABLES, *INI_VARIABLE], "")])
def test_nothing_named_lists_the_ways(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        ElmoConfig.load()
    for way in (
        "ElmoConfig(options_file, weight_file)",
        "`config=`",
        "INI file",
        "named model",
        *VARIABLES,
        "ELMO_CONFIG",
    ):
        assert way in str(error.value)
    assert '"demo" comes with this package' in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        f"[ELMO]\n{FILES}",
        f"[elmo]\n{FILES}",
        f"[Elmo]\n{FILES.upper().replace('O.JSON', 'o.json').replace('W.HDF5', 'w.hdf5')}",
        b"\xef\xbb\xbf" + f"[ELMO]\n{FILES}".encode(),
        f"[ELMO]\n{FILES}".replace("\n", "\r\n"),
        f"[ELMO]\n{FILES}".replace("\n", "\r"),
        f"[ELMO]\n{FILES}".replace(" =", ":"),
        f"# first\n\n[other]\noptions_file = x\n[ELMO]\n; mine\n{FILES}\n[DEFAULT]\nx = 1\n",
        "[ELMO]\n    options_file = o.json\n    weight_file = w.hdf5\n",
        f"[ELMO]\n{FILES}options_sha256 =\n",
    ],
    ids=["plain", "lower", "keys", "BOM", "CRLF", "CR", "colon", "other sections", "indented", "empty optional"],
)
def test_forms_of_an_ini_file(text: str | bytes, tmp_path: Path) -> None:
    config = ElmoConfig.load(ini(tmp_path, text))
    assert config == ElmoConfig(str(tmp_path / "o.json"), str(tmp_path / "w.hdf5"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["one section [ELMO]", "no section", "options_file = PATH"]),
        (FILES, ["no section headers", "line: 1", "options_file = PATH"]),
        (f"[ELMo-original]\n{FILES}", ["one section [ELMO]", "[ELMo-original]"]),
        (f"[ELMO]\n{FILES}[elmo]\n", ["one section", "[ELMO], [elmo]"]),
        (f"[ELMO]\n{FILES}[ELMO]\n", ["[line  4]", "already exists"]),
        (f"[ELMO]\n{FILES}weight_file = x\n", ["[line  4]", "weight_file", "already exists"]),
        ("[ELMO]\noption_file = a\nweight_file = b\n", ["`options_file` is missing", "`option_file` is not a known"]),
        (f"[ELMO]\n{FILES}sha256 = a\n", ["`sha256` is not a known key", "may have options_sha256"]),
        ("[ELMO]\noptions_file =\nweight_file = b\n", ["`options_file` is missing or empty"]),
        ("[ELMO]\noptions_file\nweight_file = b\n", ["[line  2]", "options_file"]),
        ("[ELMO]\noptions_file = a\n  weight_file = b\n", ["`weight_file` is missing", "do not indent"]),
        ("[ELMO]\noptions_file = a\n  b\nweight_file = c\n", ["`options_file` takes in the line below it"]),
        ("[ELMO]\noptions_file = ${NOT_SET}/a\nweight_file = b\n", ["line 2", "NOT_SET is not set", "Set it"]),
        (f"[ELMO]\n{FILES}weight_sha256 = abc\n", ["`weight_sha256`", "64 hexadecimal digits", "'abc'"]),
        (bytes(range(256)), ["can't decode", "UTF-8", "ElmoConfig(options_file, weight_file)"]),
        (f"[ELMO]\n{FILES}".encode("utf-16"), ["can't decode", "UTF-8"]),
        ('{\n  "lstm": {}\n}', ["no section headers", "ElmoConfig(options_file, weight_file)"]),
        ("[ELMO]\n" + "junk\n" * 9999, ["parsing errors"]),
    ],
    ids=range(18),
)
def test_broken_ini_file(text: str | bytes, words: list[str], tmp_path: Path) -> None:
    path = ini(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        ElmoConfig.load(path)
    received = message(error, str(path))
    for word in words:
        assert " ".join(word.split()) in received
    assert len(received) < 1000 + 5 * len(str(path))


def test_unreadable_ini_file(open_folder: Path, unreadable: Callable[[Path], None]) -> None:
    path = ini(open_folder, f"[ELMO]\n{FILES}")
    unreadable(path)
    with pytest.raises(ConfigError) as error:
        ElmoConfig.load(path)
    message(error, str(path), "Permission denied")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.json", "FOLDER/a.json"),
        ("../up/a.json", "FOLDER/../up/a.json"),
        ("/abs/a.json", "/abs/a.json"),
        ("~/a.json", "HOME/a.json"),
        ("~no-such-user/a.json", "FOLDER/~no-such-user/a.json"),
        ("${DATA}/a.json", "/data/a.json"),
        ("x${DATA}${DATA}", "FOLDER/x/data/data"),
        ("$DATA ${no name} %(x)s 100%", "FOLDER/$DATA ${no name} %(x)s 100%"),
        ("a.zip!in/a.json", "FOLDER/a.zip!in/a.json"),
        *((url, url) for url in ("http://h/a%20b;c#d", "https://h/a", "s3://b/a", "gs://b/a", "hf://u/r/a")),
        ("HTTPS://h/a", "HTTPS://h/a"),
        ("${MIRROR}/a", "https://h/m/a"),
    ],
)
def test_paths_of_an_ini_file(value: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("MIRROR", "https://h/m")
    monkeypatch.setenv("HOME", "/home/me")
    config = ElmoConfig.load(ini(tmp_path, f"[ELMO]\noptions_file = {value}\nweight_file = {value}.hdf5\n"))
    expected = expected.replace("FOLDER", str(tmp_path)).replace("HOME", "/home/me")
    assert (config.options_file, config.weight_file) == (expected, f"{expected}.hdf5")


def test_relative_ini_path_outlives_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ElmoConfig.load("config.ini")
    monkeypatch.chdir("/")
    assert config.options_file == str(folder / "config.json")


@pytest.mark.parametrize("separator", ["\x0b", "\x0c[x]", "\x1c", "\x85", "\u2028"], ids=ascii)
def test_only_line_ends_end_lines(separator: str, tmp_path: Path) -> None:
    config = ElmoConfig.load(ini(tmp_path, f"[ELMO]\noptions_file = a{separator}b\nweight_file = w"))
    assert config.options_file == str(tmp_path / f"a{separator}b")
    assert config.weight_origin.endswith(", line 3")


# Any printable text and the odd separator, but no `${VAR}`; configparser strips values.
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("%$=#;:[]!\"' \x0c\x1c\x85\u2028"), min_size=1
).map(lambda text: "x" + text.replace("${", "$").strip())


@given(options=texts, weight=texts, section=st.sampled_from(["ELMO", "elmo", "eLmO"]), above=st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_path(options: str, weight: str, section: str, above: int, tmp_path: Path) -> None:
    lines = ["; [ELMO]", "[else]", "options_file = -"][:above]
    lines += [f"[{section}]", f"options_file = {options}", "# weight_file = no", f"weight_file={weight}"]
    config = ElmoConfig.load(ini(tmp_path, "\n".join(lines)))
    assert (config.options_file, config.weight_file) == (str(tmp_path / options), str(tmp_path / weight))
    assert config.options_origin.endswith(f", line {above + 2}")
    assert config.weight_origin.endswith(f", line {above + 4}")


@given(
    text=st.text(max_size=60) | st.lists(st.sampled_from(["[ELMO]", *FILES.split("\n"), " ", "\n", "="])).map("".join)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_any_text_is_an_ini_file_or_a_documented_error(text: str, tmp_path: Path) -> None:
    path = ini(tmp_path, text.encode(errors="surrogatepass"))
    try:
        config = ElmoConfig.load(path)
    except ConfigError as error:
        said = str(error)
    else:
        said = f"{config.options_origin} {config.weight_origin}"
    assert str(path) in said


NAMES = {
    "small": "2x1024_128_2048cnn_1xhighway",
    "medium": "2x2048_256_2048cnn_1xhighway",
    "original": "2x4096_512_2048cnn_2xhighway",
    "original-5.5b": "2x4096_512_2048cnn_2xhighway_5.5B",
    "portuguese": "contributed/pt/elmo_pt_{options.json,weights.hdf5}",
    "pubmed": "contributed/pubmed/"
    "elmo_2x4096_512_2048cnn_2xhighway_{options_PubMed_only.json,weights_PubMed_only.hdf5}",
}


@pytest.mark.parametrize(
    ("mirror", "base"),
    [(None, PUBLISHED), ("", PUBLISHED), ("http://m/elmo", "http://m/elmo"), ("/mnt/elmo/", "/mnt/elmo")],
)
@pytest.mark.parametrize("name", NAMES)
def test_published_models(name: str, mirror: str | None, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mirror is not None:
        monkeypatch.setenv("ELMO_MODELS_URL", mirror)
    config = ElmoConfig.load(name)
    files = (
        NAMES[name] if "{" in NAMES[name] else "NAME/elmo_NAME_{options.json,weights.hdf5}".replace("NAME", NAMES[name])
    )
    start, _, files = f"{base}/{files}".removesuffix("}").partition("{")
    assert [config.options_file, config.weight_file] == [start + file for file in files.split(",")]
    assert f"the named model '{name}'" in config.weight_origin


def test_demo_is_embedded_and_all_names_are_listed() -> None:
    config = ElmoConfig.load("demo")
    package = Path(bridge.errors.__file__).parent
    assert Path(config.options_file) == package / "resources/demo/options.json"
    assert Path(config.weight_file) == package / "resources/demo/weights.hdf5"
    assert ElmoConfig.named_models() == ["demo", *NAMES]


@pytest.mark.parametrize("origin", ["the argument `config`", "the environment variable ELMO_CONFIG"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("orignal", ["Did you mean 'original'?", "orignal' is not there"]),
        ("Demo", ["Did you mean 'demo'?"]),
        (".", ["is a folder"]),
        ("missing.ini", ["missing.ini' is not there"]),
        ("~no-such-user/a.ini", ["~no-such-user"]),
        ("x" * 5000, ["is not there"]),
    ],
)
def test_neither_a_file_nor_a_name(name: str, words: list[str], origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELMO_CONFIG", name)
    with pytest.raises(ResourceNotFoundError) as error:
        ElmoConfig.load(name if "argument" in origin else None)
    message(error, "must be an INI file or one of the named models (demo, small", origin, name, *words)
    assert isinstance(error.value, FileNotFoundError)


@pytest.mark.parametrize("has_file", [True, False])
@pytest.mark.parametrize("kind", [str, Path])
def test_the_file_in_a_folder_is_named(folder: Path, has_file: bool, kind: type) -> None:
    (folder / "run").mkdir()
    if has_file:
        ini(folder / "run", f"[ELMO]\n{FILES}")
    with pytest.raises(ResourceNotFoundError) as error:
        ElmoConfig.load(kind("run"))
    assert ("is a folder. Give the file in it: 'run/elmo.ini'." in message(error, "is a folder.")) == has_file


class BytesPath(os.PathLike[bytes]):
    def __fspath__(self) -> bytes:
        return b"a"


@pytest.mark.parametrize("value", [3, b"a", BytesPath(), ["a"], True], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("argument", ["config", "options_file", "weight_file"])
def test_wrong_types(argument: str, value: object) -> None:
    arguments: dict[str, Any] = {} if argument == "config" else ARGUMENTS
    with pytest.raises(InputTypeError) as error:
        ElmoConfig.load(**arguments | {argument: value})
    message(error, f"`{argument}` must be ", type(value).__name__)
    assert isinstance(error.value, TypeError)


@pytest.mark.parametrize("argument", ["options_sha256", "weight_sha256"])
@pytest.mark.parametrize(
    ("digest", "kind"), [("", ConfigError), (DIGEST[1:], ConfigError), ("g" * 64, ConfigError), (3, InputTypeError)]
)
def test_checksums_are_64_hexadecimal_digits(argument: str, digest: Any, kind: type[BridgeError]) -> None:
    with pytest.raises(kind, match=f"`{argument}` must be .* Received: {digest!r}"):
        ElmoConfig("o", "w", **{argument: digest})
    assert ElmoConfig("o", "w", DIGEST, DIGEST.upper()).weight_sha256 == DIGEST.upper()


def test_a_config_is_a_value(folder: Path) -> None:
    config = ElmoConfig(Path("o.json"), "w.hdf5", weight_origin="elsewhere")  # type: ignore[arg-type]
    assert config == ElmoConfig("o.json", "w.hdf5")
    assert hash(config) == hash(ElmoConfig("o.json", "w.hdf5"))
    assert ElmoConfig.load(config) is config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.options_file = "x"  # type: ignore[misc]
