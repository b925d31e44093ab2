"""`Checkpoint.open`: both files are checked against each other, and every problem is in one message."""

import fcntl
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from models import options_dict, random_model

from bridge.errors import CheckpointError, ResourceNotFoundError
from bridge.resources.checkpoint import Checkpoint, expected_datasets
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions

CELL = "RNN_1/RNN/MultiRNNCell/Cell1/LSTMCell"


@pytest.fixture
def model(tmp_path: Path) -> ElmoConfig:
    """A random model of the test's own, free to break: dim 10, projection_dim 6, 2 layers."""
    return random_model(tmp_path / "model")


def refused(config: ElmoConfig, *words: str) -> str:
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(config)
    assert isinstance(error.value, ValueError)
    message = str(error.value)
    for word in ("must be", "Received: ", *words) if words else ():
        assert word in message
    return message


def faults(config: ElmoConfig) -> list[str]:
    """The listed faults of one file."""
    return [line.removeprefix("  - ") for line in refused(config).splitlines() if line.startswith("  - ")]


def test_sound_pair(model: ElmoConfig) -> None:
    checkpoint = Checkpoint.open(model)
    assert checkpoint.config is model
    assert (str(checkpoint.options_file), str(checkpoint.weight_file)) == (model.options_file, model.weight_file)
    assert (checkpoint.num_layers, checkpoint.output_dim, checkpoint.max_characters_per_token) == (3, 12, 50)
    assert json.loads(checkpoint.options.model_dump_json()) == json.loads(json.dumps(options_dict()))


@pytest.mark.parametrize(
    "options",
    [
        {"n_layers": 1},
        {"n_layers": 3},
        {"n_highway": 0},
        {"n_highway": 2},
        {"n_characters": 261},
        {"filters": ((50, 1),)},
    ],
    ids=str,
)
def test_sound_pairs_of_other_sizes(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(random_model(tmp_path, **options))
    assert checkpoint.num_layers == options.get("n_layers", 2) + 1


def test_datasets_of_the_original_model() -> None:
    """Shapes as bilm-tf publishes them."""
    filters = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
    options = options_dict(dim=4096, projection_dim=512, n_highway=2, filters=filters, char_dim=16)
    shapes = expected_datasets(ElmoOptions.model_validate_json(json.dumps(options)))
    assert len(shapes) == 1 + 2 * 7 + 2 * 4 + 2 + 2 * 2 * 3
    assert shapes["char_embed"] == (261, 16)
    assert shapes["CNN/W_cnn_6"] == (1, 7, 16, 1024)
    assert shapes["CNN/b_cnn_6"] == (1024,)
    assert shapes["CNN_high_1/W_carry"] == shapes["CNN_high_0/W_transform"] == (2048, 2048)
    assert shapes["CNN_proj/W_proj"] == (2048, 512)
    assert shapes[f"{CELL}/W_0"] == (1024, 16384)
    assert shapes[f"{CELL}/B"] == (16384,)
    assert shapes[f"{CELL}/W_P_0"] == (4096, 512)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 93_600_864 - 16  # AllenNLP adds a row


def test_fingerprint_is_the_hash_of_both_files(
    model: ElmoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain() -> str:
        return hashlib.sha256(options_file.read_bytes() + weight_file.read_bytes()).hexdigest()

    options_file, weight_file = Path(model.options_file), Path(model.weight_file)
    monkeypatch.chdir(options_file.parent)
    relative = Checkpoint.open(ElmoConfig(options_file.name, weight_file.name))
    monkeypatch.chdir(tmp_path)
    seen = {relative.fingerprint}
    assert seen == {plain()}
    options_file.write_text(options_file.read_text() + "\n")
    seen |= {Checkpoint.open(model).fingerprint, plain()}
    with h5py.File(weight_file, "r+") as file:
        file["char_embed"][0, 0] += 1
    seen |= {Checkpoint.open(model).fingerprint, plain()}
    assert len(seen) == 3


def replaced(values: object, **arguments: Any) -> Callable[[h5py.File, str], None]:
    def replace(file: h5py.File, name: str) -> None:
        del file[name]
        file.create_dataset(name, data=values, **arguments)

    return replace


def delete(file: h5py.File, name: str) -> None:
    del file[name]


def empty_group(file: h5py.File, name: str) -> None:
    delete(file, name)
    file.create_group(name)


def dangling_link(file: h5py.File, name: str) -> None:
    delete(file, name)
    file[name] = h5py.SoftLink("/nowhere")


NOT_FLOAT = "must be float16, float32 or float64 in native byte order"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (delete, "missing, must be a float dataset of shape (40,)"),
        (dangling_link, "is a link to somewhere else, which is not followed, must be a float dataset of shape (40,)"),
        (empty_group, "is a group, must be a float dataset of shape (40,)"),
        (replaced(np.zeros(41, np.float32)), "has shape (41,), must be (40,)"),
        (replaced(np.zeros((40, 1), np.float32)), "has shape (40, 1), must be (40,)"),
        (replaced(np.float32(0)), "has shape (), must be (40,)"),
        (replaced(h5py.Empty(np.float32)), "has shape None, must be (40,)"),
        (replaced(np.zeros(40, np.int32)), f"has dtype int32, {NOT_FLOAT}"),
        (replaced(np.zeros(40, bool)), f"has dtype bool, {NOT_FLOAT}"),
        (replaced(np.zeros(40, ">f4")), f"has dtype >f4, {NOT_FLOAT}"),
        (replaced(np.zeros(40, np.complex64)), f"has dtype complex64, {NOT_FLOAT}"),
        (replaced(np.zeros(40, np.longdouble)), f"has dtype float128, {NOT_FLOAT}"),
        (replaced(["0.0"] * 40), f"has dtype object, {NOT_FLOAT}"),
        (replaced(np.zeros(40, "S4")), f"has dtype |S4, {NOT_FLOAT}"),
    ],
)
def test_wrong_dataset(change: Callable[[h5py.File, str], None], fault: str, model: ElmoConfig) -> None:
    with h5py.File(model.weight_file, "r+") as file:
        change(file, f"{CELL}/B")
    assert faults(model) == [f"{CELL}/B: {fault}"]
    refused(model, model.weight_file, "the argument `weight_file`", "of the same model")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_are_sound(dtype: type, model: ElmoConfig) -> None:
    with h5py.File(model.weight_file, "r+") as file:
        replaced(np.zeros(40, dtype), compression="gzip")(file, f"{CELL}/B")
    assert Checkpoint.open(model)


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ("RNN_0/RNN/MultiRNNCell/Cell2/LSTMCell/B", "RNN_0/RNN/MultiRNNCell/Cell2"),
        ("CNN/W_cnn_3", "CNN/W_cnn_3"),
        ("CNN_high_1/W_carry", "CNN_high_1"),
    ],
)
def test_layers_that_the_options_do_not_mention(extra: str, fault: str, model: ElmoConfig) -> None:
    with h5py.File(model.weight_file, "r+") as file:
        file["unrelated"] = [1]  # allowed
        file[extra] = np.zeros(3, np.float32)
    assert faults(model) == [f"{fault}: is there, and the options do not mention it"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"dim": 11}, {f"{CELL}/W_0: has shape (12, 40), must be (12, 44)"}),
        ({"projection_dim": 7}, {"CNN_proj/b_proj: has shape (6,), must be (7,)"}),
        ({"n_layers": 3}, {"RNN_0/RNN/MultiRNNCell/Cell2/LSTMCell/B: missing, must be a float dataset of shape (40,)"}),
        ({"n_layers": 1}, {"RNN_1/RNN/MultiRNNCell/Cell1: is there, and the options do not mention it"}),
        ({"n_highway": 0}, {"CNN_high_0: is there, and the options do not mention it"}),
        ({"filters": ((1, 4), (2, 5), (4, 6))}, {"CNN/W_cnn_2: has shape (1, 3, 5, 6), must be (1, 4, 5, 6)"}),
        ({"char_dim": 6}, {"char_embed: has shape (261, 5), must be (261, 6)"}),
    ],
    ids=str,
)
def test_options_of_another_model(other: dict[str, Any], expected: set[str], model: ElmoConfig, tmp_path: Path) -> None:
    options = random_model(tmp_path / "other", **other)
    assert expected <= set(faults(ElmoConfig(options.options_file, model.weight_file)))


def test_every_problem_of_both_files_in_one_message(model: ElmoConfig) -> None:
    with h5py.File(model.weight_file, "r+") as file:
        delete(file, "char_embed")
        replaced([1, 2])(file, "CNN_proj/b_proj")
        file["CNN_high_7/x"] = [1.0]
    assert [fault.split(":")[0] for fault in faults(model)] == ["char_embed", "CNN_proj/b_proj", "CNN_high_7"]
    Path(model.options_file).write_text("{}")
    Path(model.weight_file).write_bytes(b"\n<!DOCTYPE html>")
    refused(model, "lstm: missing", "char_cnn: missing", "HTML", model.options_file, model.weight_file)
    both = ElmoConfig("/no/o.json", "/no/w.hdf5")
    with pytest.raises(
        ResourceNotFoundError, match=r"(?s)`options_file` must .*/no/o\.json.*`weight_file` must .*w\.hdf5"
    ):
        Checkpoint.open(both)


def test_errors_name_the_line_of_the_ini_file(model: ElmoConfig, tmp_path: Path) -> None:
    ini = tmp_path / "elmo.ini"
    ini.write_text(f"[ELMO]\n\nweight_file = {model.weight_file}\noptions_file = model/none.json\n")
    with pytest.raises(ResourceNotFoundError) as error:
        Checkpoint.open(ini)
    assert f"{ini}, line 4 must name a file that exists" in str(error.value)
    ini.write_text(ini.read_text().replace("none", "options"))
    Path(model.weight_file).write_text("x")
    refused(ElmoConfig.load(ini), f"{model.weight_file} (from {ini}, line 3)")


def test_swapped_files(model: ElmoConfig) -> None:
    message = refused(ElmoConfig(model.weight_file, model.options_file), "is an HDF5 file", "looks like JSON")
    assert message.count("swapped?") == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file. Download it again"),
        (b'{"lstm": 1}', "JSON. Are `options_file` and `weight_file` swapped?"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04rest", "ZIP archive or a PyTorch checkpoint"),
        (b"\x1f\x8brest", "Unpack it"),
        (b"\x80\x04rest", "a Python pickle, which is never loaded"),
        (b"rest", "neither JSON nor HDF5"),
        (b"\x89HDF\r\n\x1a\nrest", "truncated HDF5 file. Download it again"),
    ],
    ids=["empty", "JSON", "LFS", "ZIP", "gzip", "pickle", "text", "HDF5"],
)
def test_weight_file_that_is_no_hdf5(content: bytes, words: str, model: ElmoConfig) -> None:
    Path(model.weight_file).write_bytes(content)
    refused(model, "`weight_file` must be an HDF5 file", f"{model.weight_file} (from the argument", words)


def test_truncated_at_any_length(model: ElmoConfig) -> None:
    path = Path(model.weight_file)
    content = path.read_bytes()
    for length in (*range(0, len(content), 997), len(content) - 1):
        path.write_bytes(content[:length])
        refused(model, "`weight_file` must be an HDF5 file", "ownload it again")


def test_damage_is_a_documented_error_or_goes_unseen(model: ElmoConfig) -> None:
    """What can be seen without reading every weight; the checksums are for the rest."""
    path, choice = Path(model.weight_file), random.Random(0)
    content, seen = path.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(content)
        for position in choice.choices(range(len(content)), k=5):
            damaged[position] = choice.randrange(256)
        path.write_bytes(damaged)
        try:
            Checkpoint.open(model)
        except CheckpointError:
            seen += 1
    assert 20 < seen < 150


@pytest.mark.parametrize("argument", ["options_sha256", "weight_sha256"])
def test_checksums_find_every_flipped_bit(argument: str, model: ElmoConfig) -> None:
    path = Path(model.options_file if argument == "options_sha256" else model.weight_file)
    content = path.read_bytes()
    expected = hashlib.sha256(content).hexdigest()
    config = ElmoConfig(model.options_file, model.weight_file, **{argument: expected.upper()})
    assert Checkpoint.open(config)
    for position in range(0, len(content), len(content) // 20):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        received = hashlib.sha256(damaged).hexdigest()
        refused(
            config, f"`{argument}` must be the checksum", str(path), received, f"expected {expected}", "fetch it again"
        )


def test_both_checksums_wrong(model: ElmoConfig) -> None:
    message = refused(ElmoConfig(model.options_file, model.weight_file, "0" * 64, "1" * 64))
    assert "`options_sha256` must" in message
    assert "`weight_sha256` must" in message


@pytest.mark.parametrize("name", ["options_file", "weight_file"])
def test_unreadable_file(name: str, open_folder: Path, unreadable: Callable[[Path], None]) -> None:
    model = random_model(open_folder)
    path = Path(getattr(model, name))
    unreadable(path)
    message = refused(model, f"{path} (from the argument `{name}`)", "Permission denied", "Check its permissions")
    assert message.count("must be") == 1  # the other file is sound


def test_unreadable_folder(open_folder: Path, unreadable: Callable[[Path], None]) -> None:
    model = random_model(open_folder / "model")
    unreadable(open_folder / "model")
    with pytest.raises(ResourceNotFoundError, match="the permissions of that folder"):
        Checkpoint.open(model)


def test_file_that_another_program_is_writing(model: ElmoConfig) -> None:
    with open(model.weight_file, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as HDF5 itself does
        message = refused(model, model.weight_file, "no other program is writing it")
    assert "damaged" not in message
