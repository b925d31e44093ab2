"""The traps of docs/troubleshooting.md, "Config and weight files": each test has the name of its entry."""

import fcntl
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from features.samples import write_store
from models import options_dict, random_model
from resources.hostile_weights import HOSTILE, NAME
from resources.http_server import Server

from bridge import Checkpoint, ElmoConfig, ElmoEmbedding, ElmoEncoder, FeatureStore
from bridge.errors import CheckpointError, ConfigError, FeatureStoreError, ResourceNotFoundError

# cached_path's Google client says so while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning")


@pytest.fixture
def model(tmp_path: Path) -> ElmoConfig:
    """A random model of the test's own, free to break."""
    return random_model(tmp_path / "model")


def refused(config: Any, *words: str, kind: type[Exception] = CheckpointError) -> str:
    with pytest.raises(kind) as error:
        ElmoEncoder(config)
    for word in ("Received: ", *words):
        assert word in str(error.value)
    return str(error.value)


def not_found(config: Any, *words: str) -> str:
    message = refused(config, *words, kind=ResourceNotFoundError)
    with pytest.raises(FileNotFoundError):  # the same, to those who do not know the bridge's errors
        ElmoEncoder(config)
    return message


def weights(model: ElmoConfig, name: str, content: bytes) -> ElmoConfig:
    """The model with another file for its weights."""
    path = Path(model.weight_file).with_name(name)
    path.write_bytes(content)
    return ElmoConfig(model.options_file, str(path))


def hostile(model: ElmoConfig, name: str) -> str:
    change, words = HOSTILE[name]
    with h5py.File(model.weight_file, "r+") as file:
        change(file, Path(model.weight_file).parent)
    return words


def test_a_path_that_is_not_there(model: ElmoConfig, tmp_path: Path) -> None:
    path = tmp_path / "no" / "weights.hdf5"
    not_found(
        ElmoConfig(model.options_file, str(path)),
        "the argument `weight_file` must name a file that exists",
        f"Looked for '{path}', of which '{tmp_path}' exists. Correct the path",
    )
    not_found("smal", "must be an INI file or one of the named models", "Did you mean 'small'?")


def test_a_relative_path_from_another_working_directory(
    model: ElmoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative = ElmoConfig("model/options.json", "model/weights.hdf5")
    (tmp_path / "elmo.ini").write_text("[ELMO]\noptions_file = model/options.json\nweight_file = model/weights.hdf5\n")
    monkeypatch.chdir(tmp_path)
    assert ElmoEncoder(relative)
    monkeypatch.chdir("/")
    not_found(relative, "Received: 'model/weights.hdf5'. Looked for '/model/weights.hdf5', of which '/' exists")
    assert ElmoEncoder(tmp_path / "elmo.ini")  # whose paths are relative to itself


def test_a_folder_instead_of_a_file(model: ElmoConfig) -> None:
    folder = str(Path(model.weight_file).parent)
    not_found(ElmoConfig(model.options_file, folder), f"Received: {folder!r}, which is a folder. Name the file in it")


def test_no_permission(open_folder: Path, unreadable: Callable[[Path], None]) -> None:
    model = random_model(open_folder)
    unreadable(Path(model.weight_file))
    refused(model, f"{model.weight_file} (from the argument `weight_file`)", "Permission denied", "its permissions")


def test_an_empty_file(model: ElmoConfig) -> None:
    refused(weights(model, "w", b""), "`weight_file` must be an HDF5 file", "looks like an empty file. Download it")
    Path(model.options_file).write_bytes(b"")
    refused(model, "`options_file` must hold", "line 1 column 0", "It looks like an empty file")


def test_options_and_weights_swapped(model: ElmoConfig) -> None:
    message = refused(ElmoConfig(model.weight_file, model.options_file), "which is an HDF5 file", "looks like JSON")
    assert message.count("Are `options_file` and `weight_file` swapped?") == 2


def test_broken_json(model: ElmoConfig) -> None:
    path = Path(model.options_file)
    lines = path.read_text().split("\n")
    lines[3] += ","
    path.write_text("\n".join(lines))
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(path.read_text())
    refused(model, "`options_file` must hold the options", f"at line {expected.value.lineno} column ")


def test_keys_missing_or_of_a_wrong_type(model: ElmoConfig) -> None:
    options = options_dict(n_characters=300)
    options["lstm"]["dim"] = "10"
    del options["lstm"]["cell_clip"]
    Path(model.options_file).write_text(json.dumps(options))
    refused(
        model,
        "- lstm.dim: Input should be a valid integer (received '10')",
        "- lstm.cell_clip: missing",
        "- char_cnn.n_characters: must be 261 or 262 (received 300)",
        "Use the options file that came with the weights",
    )


def test_a_truncated_file(model: ElmoConfig) -> None:
    path = Path(model.weight_file)
    content = path.read_bytes()
    for tenth in range(1, 10):
        path.write_bytes(content[: len(content) * tenth // 10])
        refused(model, "`weight_file` must be an HDF5 file", "a damaged or truncated HDF5 file. Download it again")


def test_flipped_bits(model: ElmoConfig) -> None:
    path = Path(model.weight_file)
    content = bytearray(path.read_bytes())
    config = ElmoConfig(model.options_file, str(path), weight_sha256=hashlib.sha256(content).hexdigest())
    with h5py.File(path) as file:  # in the middle of a number, where HDF5 has no checksum of its own
        content[file[NAME].id.get_offset() + 7] ^= 0x40
    path.write_bytes(content)
    assert Checkpoint.open(model)
    refused(config, "`weight_sha256` must be the checksum of the file", "is damaged or another one: fetch it again")


def test_datasets_missing_or_of_another_shape_or_dtype(model: ElmoConfig) -> None:
    with h5py.File(model.weight_file, "r+") as file:
        del file["char_embed"], file["CNN_proj/b_proj"], file[NAME]
        file["CNN_proj/b_proj"] = np.zeros(7, np.float32)
        file[NAME] = np.zeros(40, np.int32)
    refused(
        model,
        "`weight_file` must hold the weights that `options_file` describes",
        "- char_embed: missing, must be a float dataset of shape (261, 5)",
        "- CNN_proj/b_proj: has shape (7,), must be (6,)",
        f"- {NAME}: has dtype int32, must be float16, float32 or float64",
    )


def test_nan_or_infinity_in_the_weights(model: ElmoConfig) -> None:
    with h5py.File(model.weight_file, "r+") as file:
        file["CNN_proj/W_proj"][2, 3] = np.nan
        file["CNN_proj/W_proj"][4, 5] = np.inf
    refused(
        model,
        "`weight_file` must hold finite numbers",
        "CNN_proj/W_proj has 2 of 90 that are NaN, infinite or beyond float32, the first at [2, 3]",
    )
    with pytest.raises(CheckpointError):
        ElmoEmbedding(model)


def test_options_of_one_model_with_weights_of_another(model: ElmoConfig, tmp_path: Path) -> None:
    fewer = random_model(tmp_path / "fewer", n_layers=1)
    refused(
        ElmoConfig(fewer.options_file, model.weight_file),
        "- RNN_0/RNN/MultiRNNCell/Cell1: is there, and the options do not mention it",
        "Use the options file and the weight file of the same model",
    )
    wider = random_model(tmp_path / "wider", dim=11)
    refused(ElmoConfig(wider.options_file, model.weight_file), f"- {NAME}: has shape (40,), must be (44,)")


def test_a_tensorflow_checkpoint(model: ElmoConfig, tmp_path: Path) -> None:
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "model.ckpt"))
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"))
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001", "saved/saved_model.pb"):
        path = ElmoConfig(model.options_file, str(tmp_path / name))
        refused(path, "looks like part of a TensorFlow checkpoint or SavedModel", "bilm-tf's `dump_weights` writes it")


def test_a_pytorch_checkpoint(model: ElmoConfig, tmp_path: Path) -> None:
    for is_zip in (True, False):
        torch.save({"x": torch.zeros(3)}, tmp_path / "m.pt", _use_new_zipfile_serialization=is_zip)
        path = ElmoConfig(model.options_file, str(tmp_path / "m.pt"))
        refused(path, "looks like a PyTorch checkpoint, which is never unpickled. Give the published file")


def test_a_git_lfs_pointer_or_an_html_page_instead_of_the_file(model: ElmoConfig) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 374434792\n"
    page = b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>"
    options = Path(model.options_file).read_bytes()
    for content, words in ((pointer, "a Git LFS pointer. Run `git lfs pull`"), (page, "an HTML or XML page")):
        refused(weights(model, "w", content), "`weight_file` must be an HDF5 file", f"looks like {words}")
        Path(model.options_file).write_bytes(content)
        refused(model, "`options_file` must hold", "line 1 column 1" if content is pointer else "line 2", words)
        Path(model.options_file).write_bytes(options)


def test_an_archive_or_a_numpy_file_instead_of_the_file(model: ElmoConfig, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.gz").write_bytes(gzip.compress(Path(model.weight_file).read_bytes()))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(model.weight_file, "weights.hdf5")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(model.weight_file, "weights.hdf5")
    for name, words in (
        ("a.npz", "a NumPy archive (.npz)"),
        ("a.npy", "a NumPy array"),
        ("a.gz", "gzip-compressed. Unpack it first"),
        ("a.tar", "a tar archive. A file inside it is named as `archive.tar!weights.hdf5`"),
        ("a.zip", "a ZIP archive"),
    ):
        refused(ElmoConfig(model.options_file, str(tmp_path / name)), f"looks like {words}")
    for name in ("a.tar", "a.zip"):
        assert ElmoEncoder(ElmoConfig(model.options_file, f"{tmp_path / name}!weights.hdf5"))


def test_a_file_that_another_program_is_writing(model: ElmoConfig) -> None:
    with open(model.weight_file, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as HDF5 itself does
        refused(model, "unable to lock file", "no other program is writing it")


@pytest.mark.usefixtures("cache")
def test_a_dead_url(server: Server, model: ElmoConfig) -> None:
    message = not_found(
        ElmoConfig(f"{server.url}/o.json", model.weight_file),
        "the argument `options_file` must name a file that can be fetched",
        f"Received: '{server.url}/o.json', which failed with FileNotFoundError",
        "Check the address",
    )
    assert "ELMO_MODELS_URL can name a mirror" in message


@pytest.mark.usefixtures("cache")
def test_no_network(server: Server, model: ElmoConfig) -> None:
    server.files["/w.hdf5"] = Path(model.weight_file).read_bytes()
    config = ElmoConfig(model.options_file, f"{server.url}/w.hdf5")
    assert ElmoEncoder(config)
    server.stop()
    assert ElmoEncoder(config)  # from the cache
    other = ElmoConfig(model.options_file, f"{server.url}/other.hdf5")
    not_found(other, "failed with ConnectionError", "Check the address (http, https, s3, gs or hf) and the network")


def test_a_cache_folder_that_cannot_be_written(
    server: Server, model: ElmoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/w.hdf5"] = Path(model.weight_file).read_bytes()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):  # root may write everywhere else
        monkeypatch.setattr("cached_path.common.CACHE_DIRECTORY", folder)
        words = f"the cache '{folder}' can't be written"
        not_found(ElmoConfig(model.options_file, f"{server.url}/w.hdf5"), words, "CACHED_PATH_CACHE_ROOT, set before")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(model.weight_file, "w")
    config = ElmoConfig(model.options_file, f"{tmp_path}/a.zip!w")
    not_found(config, "must name a file that can be copied into the cache", "CACHED_PATH_CACHE_ROOT, set before")


OPENS = """
import sys
from bridge import Checkpoint, ElmoConfig
print(Checkpoint.open(ElmoConfig(*sys.argv[1:])).fingerprint)
"""


@pytest.mark.slow
def test_two_processes_downloading_at_once(server: Server, model: ElmoConfig, tmp_path: Path) -> None:
    server.files["/o.json"] = Path(model.options_file).read_bytes()
    server.files["/w.hdf5"] = Path(model.weight_file).read_bytes()
    command = [sys.executable, "-c", OPENS, f"{server.url}/o.json", f"{server.url}/w.hdf5"]
    environment = os.environ | {"CACHED_PATH_CACHE_ROOT": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    folder = Path(__file__).parents[2]
    running = [
        subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    fingerprints = {process.communicate()[0].strip() for process in running}
    assert fingerprints == {Checkpoint.open(model).fingerprint}
    assert server.requests.count("GET /w.hdf5") == 1


@pytest.mark.parametrize("name", ["external_link", "soft_link", "virtual_dataset", "external_storage"])
def test_links_and_external_data_in_hdf5(name: str, model: ElmoConfig) -> None:
    words = hostile(model, name)
    refused(model, f"- {NAME}: {words}")


def test_an_hdf5_file_that_claims_ten_terabytes(model: ElmoConfig) -> None:
    hostile(model, "ten_terabytes")
    assert Path(model.weight_file).stat().st_size < 1 << 20
    refused(model, f"- {NAME}: has shape (2748779069440,), must be (40,)")
    hostile(model, "never_written")
    refused(model, f"- {NAME}: claims 160 bytes, of which 0 are there")


def test_a_compression_bomb_in_hdf5(model: ElmoConfig) -> None:
    hostile(model, "chunk_that_is_a_bomb")
    refused(model, f"- {NAME}: has a chunk out of which more than the 160 bytes come that belong there")


def test_filters_and_plugins_of_hdf5(model: ElmoConfig) -> None:
    hostile(model, "unknown_filter")
    with h5py.File(model.weight_file) as file, pytest.raises(OSError, match=r"filter|plugin"):  # elsewhere
        file[NAME][:]
    refused(model, f"- {NAME}: went through HDF5's filter number 305", "`h5repack -f NONE INPUT OUTPUT` takes filters")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "recursion limit exceeded"),
        (b'{"a":' * 100_000, "recursion limit exceeded"),
        (json.dumps(options_dict()).replace('"dim": 10', '"dim": 10, "dim": 11').encode(), "'dim': is there twice"),
        (json.dumps(options_dict() | {"x": float("nan")}).encode(), "NaN: JSON has no such number"),
        (json.dumps(options_dict()).replace('"dim": 10', '"dim": ' + "9" * 5000).encode(), "number out of range"),
        (json.dumps(options_dict() | {"x": "x" * (1 << 20)}).encode(), "more than 1048576 bytes"),
    ],
    ids=["deep lists", "deep objects", "twice", "NaN", "digits", "long"],
)
def test_json_that_is_nested_without_end_or_says_a_thing_twice(content: bytes, words: str, model: ElmoConfig) -> None:
    Path(model.options_file).write_bytes(content)
    refused(model, "`options_file` must hold the options of an ELMo biLM", words)


@pytest.mark.usefixtures("cache")
def test_a_zip_bomb_or_a_path_that_leads_out_of_an_archive(model: ElmoConfig, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(65 << 20))
        archive.writestr("../evil", b"x")
        archive.write(model.weight_file, "weights.hdf5")
    for member, words in (
        ("bomb", f"'bomb' claims {65 << 20} bytes, stored in "),
        ("../evil", "'../evil' is no path of a file inside an archive"),
        ("../../a.zip", "is no path of a file inside an archive"),
    ):
        not_found(ElmoConfig(model.options_file, f"{tmp_path}/a.zip!{member}"), words)
    assert ElmoEncoder(ElmoConfig(model.options_file, f"{tmp_path}/a.zip!weights.hdf5"))
    assert not list(tmp_path.rglob("evil"))


def test_variables_in_the_url_of_an_ini_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "12345")
    (tmp_path / "elmo.ini").write_text("[ELMO]\noptions_file = https://h/o?${SECRET}\nweight_file = w\n")
    message = refused(tmp_path / "elmo.ini", "A ${VAR} in a URL of an INI file must stand at its", kind=ConfigError)
    assert "12345" not in message


def test_saved_keras_models_from_strangers(model: ElmoConfig, tmp_path: Path) -> None:
    inputs = keras.Input((None,), dtype="string")
    keras.Model(inputs, ElmoEmbedding(model)(inputs)).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as reader, zipfile.ZipFile(tmp_path / "other.keras", "w") as writer:
        for name in reader.namelist():
            content = reader.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1]["config"].update(config="small", fingerprint=None)
                content = json.dumps(config).encode()
            writer.writestr(name, content)
    with pytest.raises(ResourceNotFoundError, match="nothing is downloaded at this point"):
        keras.models.load_model(tmp_path / "other.keras")
    assert keras.models.load_model(tmp_path / "m.keras")
    shutil.rmtree(Path(model.weight_file).parent)
    with pytest.raises(ResourceNotFoundError, match="must be loaded with the ELMo weights that it was trained on"):
        keras.models.load_model(tmp_path / "m.keras")


def test_feature_stores_from_strangers(tmp_path: Path) -> None:
    path = tmp_path / "f.hdf5"
    write_store(path, layout="elmo", compression="gzip")
    with h5py.File(path, "r+") as file:
        file["0"].id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(1 << 22)) + bytes(4))
        del file["2"]
        file["2"] = h5py.ExternalLink("/etc/secret.hdf5", "/x")
    with FeatureStore.open(path) as store:
        with pytest.raises(FeatureStoreError, match="the dataset '0' has a chunk out of which more than the 144 bytes"):
            store[0]
        with pytest.raises(FeatureStoreError, match="the dataset '2' is a link to somewhere else"):
            store[2]
