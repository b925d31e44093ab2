"""The folder of parts: whole or not there, never of two runs, on disks and in object storage."""

import importlib
import json
import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpus.ray_helpers import use_small_windows
from hypothesis import given
from hypothesis import strategies as st

from bridge.corpus import window_reader
from bridge.corpus.batching import take_window
from bridge.corpus.progress import EmbedProgress
from bridge.corpus.shards import Shards, check_run, write_part
from bridge.corpus.sources import Corpus
from bridge.corpus.storage import Storage
from bridge.corpus.window_reader import WindowReader
from bridge.errors import FeatureStoreError, InputValueError, OutputError, ProcessError
from bridge.features.metadata import FeatureMetadata
from bridge.features.parquet import features_table, read_parquet

METADATA = FeatureMetadata(
    fingerprint="0" * 64,
    state="zero",
    precision="float32",
    layers="top",
    dtype="float32",
    tokenization="whitespace",
    num_layers=3,
    output_dim=2,
)
SETTINGS = {"layers": "top"}


@pytest.fixture(params=["disk", "file", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place for an output: a path, a URL that pyarrow knows, and one that only fsspec knows."""
    names = {"disk": f"{tmp_path}/out", "file": f"file://{tmp_path}/out", "memory": f"memory://{uuid.uuid4().hex}/out"}
    yield names[request.param]
    if request.param == "memory":
        importlib.import_module("fsspec").filesystem("memory").store.clear()


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_reader, "take_window", take_window)  # which is put back
    use_small_windows(4)


def write_window(shards: Shards, run: str, window: window_reader.Window) -> None:
    """As a worker does."""
    metadata = METADATA.with_counts(run=run)
    check_run(shards.storage, run)
    numbers = range(window.first, window.first + len(window.sentences))
    features = [np.full((len(sentence.tokens), 2), 7, np.float32) for sentence in window.sentences]
    table = features_table(numbers, [sentence.text for sentence in window.sentences], features, metadata)
    write_part(shards.storage, window.first, table, None)


def embed(
    output: str | Path,
    corpus: Path,
    *,
    stop_after: int | None = None,
    write: Callable[[Shards, str, window_reader.Window], None] = write_window,
    settings: dict[str, Any] = SETTINGS,
    **arguments: bool,
) -> WindowReader:
    """A run, without workers and without a model; windows are written last ones first, as far as may be."""
    with closing(Shards(output)) as shards:
        run = shards.begin(settings, **{"resume": False, "overwrite": False} | arguments)
        reader = WindowReader(Corpus(corpus), shards)
        windows = list(reader.windows(EmbedProgress(Corpus(corpus), None)))
        for window in windows[::-1][:stop_after]:
            write(shards, run, window)
        if stop_after is None:
            shards.finish(METADATA.with_counts(run=run, **reader.counts), reader.firsts)
        return reader


def corpus_of(folder: Path, lines: list[str]) -> Path:
    path = folder / "corpus.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


LINES = ["a b c", "", "d", "e f g h i j", "", "k", "l m n o", "p", "q r s"]


def names(output: str) -> list[str]:
    return [name for name in Storage(output).names() if not name.startswith("part-")]


def texts(output: str) -> list[str]:
    storage = Storage(output)
    found: list[str] = []
    for name in storage.names():
        if name.startswith("part-"):
            with storage.open(name) as file:
                table = pq.read_table(file)
            assert table["sentence_id"].to_pylist() == list(range(len(found), len(found) + len(table)))
            found += table["sentence"].to_pylist()
    return found


def test_a_run_from_begin_to_end(output: str, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, LINES)
    with closing(Shards(output)) as shards:
        assert shards.finished() is None
    reader = embed(output, corpus)
    assert names(output) == ["_manifest.json"]
    assert texts(output) == LINES
    assert len(reader.firsts) == 4
    assert reader.counts == {"sentences": 9, "tokens": 19, "empty_sentences": 2, "long_tokens": 0}
    with closing(Shards(output)) as shards:
        metadata = shards.finished()
    assert metadata is not None
    assert (metadata.sentences, metadata.tokens, len(metadata.run)) == (9, 19, 32)
    assert not Path(f"{output}.partial").exists()
    if output.startswith("/"):
        whole, rows = read_parquet(output)
        assert whole == metadata
        assert [row.sentence for row in rows] == LINES


@given(lines=st.lists(st.sampled_from(["", "a", "b c", "d e f g h i j"]), max_size=12), stop_after=st.integers(0, 5))
def test_any_text_and_any_interruption(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], stop_after: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    corpus, output = corpus_of(folder, lines), str(folder / "out")
    first = embed(output, corpus, stop_after=stop_after)
    again = embed(output, corpus, resume=True)
    assert first.counts == again.counts
    assert first.firsts == again.firsts
    assert texts(output) == lines
    assert (again.resumed_sentences > 0) == (stop_after > 0 and lines != [])


def test_an_interrupted_run_is_not_whole_and_goes_on(output: str, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, LINES)
    embed(output, corpus, stop_after=2)
    work = f"{output}.partial" if output.startswith("/") else output
    assert names(work) == ["_run.json"]
    with closing(Shards(output)) as shards:
        assert shards.finished() is None
    with pytest.raises(InputValueError, match=r"2 finished parts .*`resume` \(--resume\).*`overwrite` \(--overwrite\)"):
        embed(output, corpus)
    with pytest.raises(InputValueError, match=r"`layers` was 'top' and is 'all'.*discards what is in"):
        embed(output, corpus, resume=True, settings={"layers": "all"})
    other = corpus_of(tmp_path, [*LINES[:-1], "q R s"])
    with pytest.raises(
        InputValueError, match=r"sentence 8 \(counted from 0\) is 'q R s', of 3 tokens, and was 'q r s'"
    ):
        embed(output, other, resume=True)
    shorter = corpus_of(tmp_path, LINES[:-1])
    with pytest.raises(InputValueError, match=r"sentence 8 \(counted from 0\) is not there and was 'q r s'"):
        embed(output, shorter, resume=True)
    shorter = corpus_of(tmp_path, LINES[:2])
    with pytest.raises(InputValueError, match="Received: 2 sentences, and more were embedded before"):
        embed(output, shorter, resume=True)

    run = json.loads(Storage(work).read("_run.json"))["run"]
    written = []

    def write(shards: Shards, run: str, window: window_reader.Window) -> None:
        written.append(window.first)
        write_window(shards, run, window)

    reader = embed(output, corpus_of(tmp_path, LINES), resume=True, write=write)
    assert written == reader.firsts[:2][::-1]
    assert reader.resumed_sentences == 9 - reader.firsts[2]
    assert texts(output) == LINES
    with closing(Shards(output)) as shards:
        metadata = shards.finished()
    assert metadata is not None
    assert metadata.run == run


def test_a_manifest_of_another_form_is_told(output: str, tmp_path: Path) -> None:
    embed(output, corpus_of(tmp_path, LINES))
    Storage(output).write("_manifest.json", lambda stream: stream.write(b'{"format": 1, "metadata": {"state": 3}}'))
    with closing(Shards(output)) as shards, pytest.raises(FeatureStoreError, match=r"_manifest.json, in which `"):
        shards.finished()


def test_overwriting_discards_everything(output: str, tmp_path: Path) -> None:
    embed(output, corpus_of(tmp_path, LINES), stop_after=3)
    embed(output, corpus_of(tmp_path, ["x"]), overwrite=True)
    assert texts(output) == ["x"]
    # The old one stays as long as it can: on a disk, until the new one is whole.
    embed(output, corpus_of(tmp_path, LINES), overwrite=True, stop_after=1)
    if output.startswith("/"):
        assert texts(output) == ["x"]
    embed(output, corpus_of(tmp_path, LINES), resume=True)
    assert texts(output) == LINES
    embed(output, corpus_of(tmp_path, []), overwrite=True)
    assert texts(output) == []
    assert sorted(os.listdir(tmp_path)) == (["corpus.txt"] if output.startswith("memory") else ["corpus.txt", "out"])


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"", lambda content: b"PAR1" * 9])
def test_a_damaged_part_is_made_again(output: str, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    corpus = corpus_of(tmp_path, LINES)
    embed(output, corpus, stop_after=2)
    storage = Storage(f"{output}.partial" if output.startswith("/") else output)
    name = next(name for name in storage.names() if name.startswith("part"))
    damaged = damage(storage.read(name))
    storage.write(name, lambda stream: stream.write(damaged))
    embed(output, corpus, resume=True)
    assert texts(output) == LINES


def test_what_says_how_it_was_made_must_be_there(output: str, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, LINES)
    embed(output, corpus, stop_after=1)
    storage = Storage(f"{output}.partial" if output.startswith("/") else output)
    storage.write("_run.json", lambda stream: stream.write(b'{"format": 2}'))
    with pytest.raises(FeatureStoreError, match=r"_run.json must be of format 1. Received: 2"):
        embed(output, corpus, resume=True)
    storage.write("_run.json", lambda stream: stream.write(b'{"for'))
    with pytest.raises(FeatureStoreError, match=r"_run.json must say how .* Received: Unterminated"):
        embed(output, corpus, resume=True)
    storage.delete("_run.json")
    with pytest.raises(FeatureStoreError, match=r"_run.json must say how .* Received: "):
        embed(output, corpus, resume=True)
    embed(output, corpus, overwrite=True)


def test_a_part_that_nobody_sees_is_told(output: str, tmp_path: Path) -> None:
    def write(shards: Shards, run: str, window: window_reader.Window) -> None:
        if window.first:
            write_window(shards, run, window)

    with pytest.raises(OutputError, match=r"every machine .* part-000000000000.parquet is missing"):
        embed(output, corpus_of(tmp_path, LINES), write=write)
    with closing(Shards(output)) as shards:
        assert shards.finished() is None


def test_a_worker_of_another_run_writes_nothing(output: str, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, LINES)
    embed(output, corpus, stop_after=1)
    with closing(Shards(output)) as shards:
        run = json.loads(shards.storage.read("_run.json"))["run"]
        check_run(shards.storage, run)
        shards.begin(SETTINGS, resume=False, overwrite=True)
        with pytest.raises(OutputError, match="sees another run"):
            check_run(shards.storage, run)
    with pytest.raises(OutputError, match="sees nothing of it"):
        check_run(Storage(f"{tmp_path}/elsewhere"), run)


def test_what_is_not_ours_is_never_touched(output: str, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, LINES)
    work = Storage(f"{output}.partial" if output.startswith("/") else output)
    work.write("thesis.tex", lambda stream: stream.write(b"my only copy"))
    with pytest.raises(OutputError, match=r"must hold nothing else. Received: .* with 'thesis.tex' in it"):
        embed(output, corpus, overwrite=True)
    assert work.read("thesis.tex") == b"my only copy"


def test_an_empty_folder_under_that_name_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    embed(tmp_path / "out", corpus_of(tmp_path, LINES))
    assert texts(str(tmp_path / "out")) == LINES
    assert sorted(os.listdir(tmp_path)) == ["corpus.txt", "out"]


@pytest.mark.parametrize("make", [lambda path: (path / "folder").mkdir(parents=True), Path.touch])
def test_something_else_under_that_name(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "out")
    with pytest.raises(OutputError, match="`output` must be a folder that such a run made, or not exist"):
        Shards(tmp_path / "out")


def test_a_run_killed_before_its_folder_got_its_name(tmp_path: Path) -> None:
    output, corpus = tmp_path / "out", corpus_of(tmp_path, LINES)
    for before in ("nothing", "an older one", "an older one, out of the way"):
        if before != "nothing":
            embed(output, corpus_of(tmp_path, ["old"]), overwrite=True)
        embed(tmp_path / "new", corpus, overwrite=True)
        os.rename(tmp_path / "new", tmp_path / "out.partial")
        (tmp_path / "out.partial" / "_run.json").write_text("{}")
        if before == "an older one, out of the way":
            os.rename(output, tmp_path / f".out.{'0a' * 16}.older")
        with closing(Shards(output)) as shards:
            assert shards.finished() is not None
        corpus = corpus_of(tmp_path, LINES)
        assert sorted(os.listdir(tmp_path)) == ["corpus.txt", "out"]
        assert names(str(output)) == ["_manifest.json"]


def test_a_users_own_copy_stays_and_a_link_is_followed(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, LINES)
    (tmp_path / "disk").mkdir()
    output = tmp_path / "out"
    output.symlink_to(tmp_path / "disk" / "features")
    (tmp_path / "out.older").mkdir()
    (tmp_path / "out.older" / "precious").touch()
    for _ in range(3):
        embed(output, corpus, overwrite=True)
        assert output.is_symlink()
        assert os.listdir(tmp_path / "disk") == ["features"]
    assert (tmp_path / "out.older" / "precious").exists()


def test_a_run_in_object_storage_is_not_ended_by_another_command() -> None:
    output = f"memory://{uuid.uuid4().hex}/out"
    with closing(Shards(output)) as first:
        run = first.begin({"state": "zero"}, resume=False, overwrite=False)
        with closing(Shards(output)) as second:  # fails before it begins
            assert second.finished() is None
        check_run(first.storage, run)
        with closing(Shards(output)) as second, pytest.raises(InputValueError, match="in the works already"):
            second.begin({"state": "zero"}, resume=False, overwrite=False)
        check_run(first.storage, run)


def test_a_run_killed_before_its_name_is_locked_again(tmp_path: Path) -> None:
    output, corpus = tmp_path / "out", corpus_of(tmp_path, LINES)
    embed(tmp_path / "new", corpus)
    os.rename(tmp_path / "new", tmp_path / "out.partial")
    with closing(Shards(output)) as shards:
        shards.begin({"state": "zero"}, resume=False, overwrite=True)
        with pytest.raises(ProcessError, match="another process works"):
            Shards(output)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with closing(Shards(output)):
        with pytest.raises(ProcessError, match="on which another process works"):
            Shards(output)
        with multiprocessing.get_context("spawn").Pool(1) as pool, pytest.raises(ProcessError):
            pool.apply(Shards, (output,))
    assert os.listdir(tmp_path) == []
    with closing(Shards(output)):
        pass


def test_storage_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    storage = Storage(tmp_path / "file" / "folder")
    for act in (lambda: storage.read("x"), lambda: storage.write("x", lambda stream: None)):
        with pytest.raises(OutputError, match=r"`output` must be in storage that can be read.* Received: .*--resume"):
            act()


def test_a_failed_write_leaves_nothing(output: str) -> None:
    def write(stream: Any) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    storage = Storage(output)
    with pytest.raises(KeyboardInterrupt):
        storage.write("x", write)
    assert storage.names() == []
