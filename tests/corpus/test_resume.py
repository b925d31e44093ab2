"""An embedding that was killed ends as if it had never been; what is there is never lost, and never half there."""

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from corpus.allennlp_oracle import allennlp_layers
from models import random_model

from bridge import ElmoConfig
from bridge.corpus import batching
from bridge.corpus.embed import embed_corpus
from bridge.corpus.segments import Segments
from bridge.errors import FeatureStoreError, InputValueError, OutputError, ProcessError, ResourceNotFoundError
from bridge.features.store import FeatureStore

LINES = [" ".join(f"w{(number * 7 + place) % 11}" for place in range(number % 9)) for number in range(60)]

# Embeds in segments of 20 tokens, and may kill itself just before it gives a file its name for the n-th time.
CHILD = """
import functools, json, os, signal, sys
import bridge.corpus.embed as embed
import bridge.corpus.job as job
arguments = json.loads(sys.argv[1])
job.take_window = functools.partial(job.take_window, max_tokens=arguments.pop("window", 20))
killed_at, seen, real = arguments.pop("killed_at", 0), 0, os.replace
def replace(source, target):
    global seen
    seen += 1
    if seen == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
from bridge import BridgeError, ElmoConfig
arguments["config"] = ElmoConfig(*arguments["config"])
try:
    report = embed.embed_corpus(**arguments)
    print(report.resumed_sentences, report.embedded_sentences)
except BridgeError as error:
    print(type(error).__name__, error)
    sys.exit(3)
"""


class Job:
    """A corpus, where it goes, and processes that embed it."""

    def __init__(self, folder: Path, config: ElmoConfig) -> None:
        self.config = config
        self.corpus, self.output = folder / "corpus.txt", folder / "out.hdf5"
        self.partial = folder / "out.hdf5.partial"
        self.corpus.write_text("".join(f"{line}\n" for line in LINES))
        self.arguments: dict[str, Any] = {"inputs": self.corpus, "output": self.output, "config": config}

    def start(self, **arguments: Any) -> subprocess.Popen[str]:
        import json

        arguments = {"inputs": str(self.corpus), "output": str(self.output), **arguments}
        arguments["config"] = [self.config.options_file, self.config.weight_file]
        command = [sys.executable, "-c", CHILD, json.dumps(arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, **arguments: Any) -> tuple[int, str]:
        process = self.start(**arguments)
        output, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors, errors
        return process.returncode, output

    def segments(self) -> list[Path]:
        return sorted(self.partial.glob(f"segment-{'?' * 12}.npz"))

    def assert_whole(self) -> None:
        """The file has every sentence once, with AllenNLP's vectors, and nothing is left beside it."""
        wanted = allennlp_layers(self.config, [line.split() for line in LINES])
        with h5py.File(self.output) as file:
            assert set(file) == {*map(str, range(len(LINES))), "sentence_to_index"}
            for number, values in enumerate(wanted):
                np.testing.assert_allclose(file[str(number)][()], values, rtol=0, atol=1e-5)
        assert {path.name for path in self.output.parent.iterdir()} == {"corpus.txt", "out.hdf5"}


@pytest.fixture
def job(small: ElmoConfig, tmp_path: Path) -> Job:
    return Job(tmp_path, small)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(*arguments: Any, **keywords: Any) -> Any:
        return batching.take_window(*arguments, max_tokens=20, **keywords)

    monkeypatch.setattr("bridge.corpus.job.take_window", take)


def test_a_killed_run_goes_on(job: Job) -> None:
    assert job.run(killed_at=6) == (-signal.SIGKILL, "")
    assert len(job.segments()) == 4  # and run.json
    assert not job.output.exists()
    code, printed = job.run(resume=True)
    assert code == 0
    resumed, embedded = map(int, printed.split())
    assert resumed > 10
    assert resumed + embedded == len(LINES)
    job.assert_whole()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_at_random_moments_until_it_is_done(job: Job, seed: int) -> None:
    generator = random.Random(seed)
    begin = time.monotonic()
    assert job.run()[0] == 0
    seconds = time.monotonic() - begin
    job.output.unlink()
    kills = 0
    while kills < 3:
        process = job.start(resume=True)
        # Mostly while it embeds: the first half of the time goes for imports.
        time.sleep(seconds * generator.uniform(0.45, 1.0))
        process.kill()
        process.communicate()
        kills += 1
        if job.output.exists():
            break
    assert job.run(resume=True)[0] == 0
    job.assert_whole()


@pytest.mark.slow
def test_killed_before_every_single_rename(job: Job) -> None:
    """Each of them in turn: segments, the whole file, and its place."""
    for killed_at in range(1, 100):
        shutil.rmtree(job.partial, ignore_errors=True)
        job.output.unlink(missing_ok=True)
        code, _ = job.run(killed_at=killed_at, window=60)
        if code == 0:
            assert killed_at > 6
            return
        assert code == -signal.SIGKILL
        assert not job.output.exists()
        assert job.run(resume=True)[0] == 0
        job.assert_whole()


def test_killed_after_the_last_rename(job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(self: Segments) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Segments, "remove", remove)
        with pytest.raises(KeyboardInterrupt):
            embed_corpus(**job.arguments)
    assert job.output.exists()
    assert job.segments()
    report = embed_corpus(**job.arguments, resume=True)
    assert report.embedded_sentences == 0
    assert report.metadata.sentences == len(LINES)
    job.assert_whole()


def interrupted(job: Job, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> None:
    """Leaves five segments."""
    real, calls = Segments.write, 0

    def write(self: Segments, *values: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise KeyboardInterrupt
        real(self, *values)

    with monkeypatch.context() as patch:
        patch.setattr(Segments, "write", write)
        with pytest.raises(KeyboardInterrupt):
            embed_corpus(**job.arguments, **arguments)
    assert len(job.segments()) == 5


def test_work_is_neither_lost_nor_mixed(job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(job, monkeypatch)
    with pytest.raises(InputValueError, match=r"must not be in the works already.*5 finished segments"):
        embed_corpus(**job.arguments)
    changes: list[dict[str, Any]] = [
        {"layers": "top"},
        {"dtype": "float16"},
        {"state": "warm"},
        {"precision": "bfloat16"},
    ]
    for changed in changes:
        name = next(iter(changed))
        with pytest.raises(InputValueError, match=f"must be resumed with the settings.*`{name}` was"):
            embed_corpus(**job.arguments, **changed, resume=True)
    other = random_model(job.output.parent.parent / f"{job.output.parent.name}-other", seed=1)
    with pytest.raises(InputValueError, match="`fingerprint` was"):
        embed_corpus(**{**job.arguments, "config": other}, resume=True)
    assert len(job.segments()) == 5
    # The form of the file is decided when it is written.
    embed_corpus(**job.arguments, resume=True, layout="packed", compression="gzip")
    with FeatureStore.open(job.output) as store:
        assert (store.layout, len(store)) == ("packed", len(LINES))


def test_overwriting_discards_the_work(job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(job, monkeypatch, layers="top")
    report = embed_corpus(**job.arguments, overwrite=True)
    assert report.embedded_sentences == len(LINES)
    job.assert_whole()


@pytest.mark.parametrize("change", ["first", "last", "more", "shorter"])
def test_another_text_is_told(job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    interrupted(job, monkeypatch)
    lines = {
        "first": ["another", *LINES[1:]],
        "last": [*LINES[:-1], "another"],
        "more": [*LINES, "another"],
        "shorter": LINES[:7],
    }[change]
    job.corpus.write_text("".join(f"{line}\n" for line in lines))
    if change in ("first", "shorter"):
        with pytest.raises(InputValueError, match="must be resumed with the text that it began with"):
            embed_corpus(**job.arguments, resume=True)
        assert len(job.segments()) == 5
        return
    # What was not read before may be anything.
    report = embed_corpus(**job.arguments, resume=True)
    assert report.metadata.sentences == len(lines)


def test_a_text_that_ends_where_a_segment_begins(
    job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(job, monkeypatch)
    second = int(job.segments()[1].stem.split("-")[1])
    job.corpus.write_text("".join(f"{line}\n" for line in LINES[:second]))
    with pytest.raises(InputValueError, match=r"sentence \d+ \(counted from 0\) is not there and was"):
        embed_corpus(**job.arguments, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped", "empty"])
def test_a_damaged_segment_costs_itself(
    job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    interrupted(job, monkeypatch)
    segment = job.segments()[2]
    content = segment.read_bytes()
    place = content.index(b"features") + 300  # in the numbers
    flipped = content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
    if damage == "gone":
        segment.unlink()
    else:
        segment.write_bytes({"truncated": content[:-100], "flipped": flipped, "empty": b""}[damage])
        with pytest.raises(FeatureStoreError, match=r"segment-\d+\.npz.*Delete that file and run the same command"):
            embed_corpus(**job.arguments, resume=True)
        assert not job.output.exists()
        segment.unlink()
    report = embed_corpus(**job.arguments, resume=True)
    assert 0 < report.embedded_sentences < len(LINES)
    job.assert_whole()


def test_a_finished_output_is_left_alone(job: Job) -> None:
    embed_corpus(**job.arguments)
    before = job.output.read_bytes()
    with pytest.raises(InputValueError, match=r"`output` must not exist.*--overwrite"):
        embed_corpus(**job.arguments)
    report = embed_corpus(**job.arguments, resume=True)  # finished already
    text = job.corpus.read_text()
    job.corpus.write_text(f"{text}one more\n")
    with pytest.raises(InputValueError, match=f"had {len(LINES)} sentences and has {len(LINES) + 1}"):
        embed_corpus(**job.arguments, resume=True)
    job.corpus.write_text(text)
    assert (report.embedded_sentences, report.metadata.sentences) == (0, len(LINES))
    with pytest.raises(InputValueError, match="`layers` was 'all' and is 'top'"):
        embed_corpus(**job.arguments, layers="top", resume=True)
    job.output.with_name("foreign.hdf5").write_bytes(b"not ours")
    with pytest.raises(FeatureStoreError, match=r"foreign\.hdf5"):
        embed_corpus(**{**job.arguments, "output": job.output.with_name("foreign.hdf5")}, resume=True)
    job.output.with_name("foreign.hdf5").unlink()
    assert job.output.read_bytes() == before
    job.assert_whole()


def test_the_old_output_stays_until_the_new_one_is_whole(
    job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_corpus(**job.arguments, layers="top")
    before = job.output.read_bytes()
    interrupted(job, monkeypatch, overwrite=True)
    assert job.output.read_bytes() == before
    with pytest.raises(InputValueError, match="--overwrite"):
        embed_corpus(**job.arguments, resume=True)
    report = embed_corpus(**job.arguments, resume=True, overwrite=True)
    assert report.resumed_sentences > 0
    job.assert_whole()


def test_the_work_of_others_is_not_touched(job: Job) -> None:
    """Parts of a Ray run, for one, have the same folder."""
    job.partial.mkdir()
    (job.partial / "part-000000000000.parquet").touch()
    with pytest.raises(OutputError, match="must hold nothing else"):
        embed_corpus(**job.arguments, resume=True, overwrite=True)
    assert (job.partial / "part-000000000000.parquet").exists()
    job.partial.rename(job.partial.with_name("elsewhere"))
    job.partial.touch()
    with pytest.raises(OutputError, match="must be a folder"):
        embed_corpus(**job.arguments)


def test_the_output_is_no_input(job: Job) -> None:
    with pytest.raises(OutputError, match="must not be an input"):
        embed_corpus(job.corpus, job.corpus, job.config, overwrite=True)
    other = job.corpus.with_name("thesis.tex")
    other.write_text("years of work")
    with pytest.raises(OutputError, match="neither HDF5 nor Parquet"):
        embed_corpus(job.corpus, other, job.config, overwrite=True)
    assert other.read_text() == "years of work"
    assert job.corpus.read_text().splitlines() == LINES


def test_a_link_is_followed(job: Job) -> None:
    target = job.output.with_name("target.hdf5")
    job.output.symlink_to(target)
    for _ in range(2):
        embed_corpus(**job.arguments, overwrite=True)
        assert job.output.is_symlink()
    with FeatureStore.open(target) as store:
        assert len(store) == len(LINES)


def test_another_layout_is_not_there_already(job: Job) -> None:
    embed_corpus(**job.arguments)
    with pytest.raises(InputValueError, match=r'Received: "packed", where .* has "elmo"'):
        embed_corpus(**job.arguments, layout="packed", resume=True)


def test_tokens_that_are_others_are_told(job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    sentences = [["New York", "x"], *(line.split() for line in LINES)]
    for number, tokens in enumerate((sentences[0], ["New", "York", "x"])):
        sentences[0] = tokens
        job.corpus.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in sentences))
        if number == 0:
            interrupted(job, monkeypatch, input_format="jsonl")
    with pytest.raises(InputValueError, match=r"'New York x', of 3 tokens, and was 'New York x', of 2 tokens"):
        embed_corpus(**job.arguments, input_format="jsonl", resume=True)


@pytest.mark.parametrize("name", ["out.hdf5", "out.parquet"])
def test_killed_between_the_whole_file_and_its_name(job: Job, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def killed(partial: Path, path: Path) -> None:
        raise KeyboardInterrupt

    job.arguments["output"] = job.output.with_name(name)
    with monkeypatch.context() as patch:
        patch.setattr("bridge.corpus.output.put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            embed_corpus(**job.arguments)
    report = embed_corpus(**job.arguments, resume=True)
    assert (report.embedded_sentences, report.metadata.sentences) == (0, len(LINES))
    assert {path.name for path in job.output.parent.iterdir()} == {"corpus.txt", name}


def test_killed_while_the_work_is_removed(job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Path.unlink, 0

    def unlink(self: Path, missing_ok: bool = False) -> None:
        nonlocal calls
        calls += self.parent == job.partial
        if calls == 4:
            raise KeyboardInterrupt
        real(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            embed_corpus(**job.arguments)
    assert job.partial.exists()
    assert embed_corpus(**job.arguments, resume=True).metadata.sentences == len(LINES)
    job.assert_whole()


@pytest.mark.slow
def test_one_process_at_a_time(job: Job) -> None:
    pipe = job.output.with_name("pipe")
    os.mkfifo(pipe)
    first = job.start(inputs=str(pipe))
    with open(pipe, "w") as text:  # opens when the first one reads
        text.write("a line\n")
        text.flush()
        with pytest.raises(ProcessError, match="another process works"):
            embed_corpus(**job.arguments)
        with pytest.raises(ProcessError, match="another process works"):
            embed_corpus(**job.arguments, overwrite=True, resume=True)
        text.write("".join(f"{line}\n" for line in LINES))
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    with h5py.File(job.output) as file:
        assert len(file) == 1 + len(LINES) + 1


@pytest.mark.slow
def test_two_processes_at_once_leave_one_whole_file(job: Job) -> None:
    processes = [job.start() for _ in range(3)]
    codes = [(process.communicate(timeout=120)[0], process.returncode) for process in processes]
    # One wrote it; the others saw it at work, or found its file.
    assert sorted(code for _, code in codes) == [0, 3, 3], codes
    job.assert_whole()


@pytest.mark.slow
@pytest.mark.parametrize("room", [1, 2_000, 40_000])
def test_a_full_disk(job: Job, room: int) -> None:
    """A limit on the size of a file stands for the disk: 1 byte, less than a segment, less than the whole file."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    import json

    arguments = {"inputs": str(job.corpus), "output": str(job.output)}
    arguments["config"] = [job.config.options_file, job.config.weight_file]  # type: ignore[assignment]
    run = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(arguments)],
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stdout[:11]) == (3, "OutputError"), (run.stdout, run.stderr)
    assert "must be on a disk with room" in run.stdout
    assert ("--resume" in run.stdout) == (room > 20_000)
    assert "Traceback" not in run.stderr, run.stderr
    assert not job.output.exists()
    assert bool(job.segments()) == (room > 20_000)
    code, printed = job.run(resume=True)
    assert code == 0
    assert (int(printed.split()[0]) == len(LINES)) == (room > 20_000)
    job.assert_whole()


def test_no_room_for_the_file_beside_its_segments(
    job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(job.output.parent)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(OutputError, match=r"0\.0 GiB free, and about 0\.0 GiB needed"):
            embed_corpus(**job.arguments)
    assert embed_corpus(**job.arguments, resume=True).embedded_sentences == 0
    job.assert_whole()


def test_errors_of_the_disk_keep_what_is_done(job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = np.savez, 0

    def savez(file: Any, **arrays: Any) -> None:
        nonlocal calls
        calls += 1
        real(file, **arrays)
        if calls == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", savez)
        with pytest.raises(OutputError, match=r"No space left on device\. The 3 finished segments"):
            embed_corpus(**job.arguments)
    assert {path.name.partition("-")[0] for path in job.partial.iterdir()} == {"run.json", "segment"}
    embed_corpus(**job.arguments, resume=True)
    job.assert_whole()


def test_an_input_that_vanishes(job: Job, small_windows: None) -> None:
    second = job.corpus.with_name("second.txt")
    second.write_text("one more\n")
    from bridge.corpus import sources

    real = sources.Corpus._read

    def read(self: Any, name: str, path: str) -> Any:
        second.unlink(missing_ok=True)
        return real(self, name, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources.Corpus, "_read", read)
        with pytest.raises(ResourceNotFoundError, match=r"second\.txt"):
            embed_corpus(**{**job.arguments, "inputs": [job.corpus, second]})
    assert job.segments()
    second.write_text("one more\n")
    report = embed_corpus(**{**job.arguments, "inputs": [job.corpus, second]}, resume=True)
    assert report.metadata.sentences == len(LINES) + 1
    assert report.resumed_sentences > 40


def test_carried_state_can_not_be_taken_up(job: Job, small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    job.arguments |= {"state": "carry", "batch_size": 2}
    interrupted(job, monkeypatch)
    with pytest.raises(InputValueError, match="in the works already"):
        embed_corpus(**job.arguments)
    report = embed_corpus(**job.arguments, overwrite=True)
    assert report.embedded_sentences == len(LINES)
