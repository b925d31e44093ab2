"""A feature file is there as a whole or not at all: full disks, kills, forgotten writers, two writers."""

import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from features.samples import features_of, metadata_of, write_store

from bridge.errors import InputValueError, OutputError, ProcessError
from bridge.features.parquet import ParquetWriter, read_parquet
from bridge.features.partial_file import PartialFile
from bridge.features.sentence_writer import SentenceWriter
from bridge.features.store import FeatureStore
from bridge.features.uninterrupted import uninterrupted

TESTS = Path(__file__).parents[1]
BYTES = 300 * 7 * 3 * 32 * 4
layouts = pytest.mark.parametrize("layout", ["elmo", "packed", "parquet"])
zeros = np.zeros((2, 3, 4), np.float32)


def run(
    path: Path, layout: str, ending: str = "close", limits: Sequence[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Python from 3.12 on warns of a fork beside threads: h5py's and NumPy's, which are idle.
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            TESTS / "features" / "writing.py",
            path,
            layout,
            ending,
            *map(str, limits),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        check=False,
    )


def create(path: Path, layout: str, **arguments: Any) -> SentenceWriter:
    if layout == "parquet":
        return ParquetWriter(path, metadata_of(), **arguments)
    return FeatureStore.create(path, metadata_of(), layout=layout, **arguments)  # type: ignore[arg-type]


def number_of_sentences(path: Path, layout: str) -> int:
    """How many can be read."""
    if layout == "parquet":
        return len(list(read_parquet(path)[1]))
    with FeatureStore.open(path) as store:
        return len(store[:])


def check_full_disks(path: Path, layout: str, limits: Sequence[int]) -> None:
    done = run(path, layout, limits=limits)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(limits)
    for line, limit in zip(lines, limits, strict=True):
        assert line.startswith(f"OutputError {errno.EFBIG} "), (limit, line)
        assert "could not be written: File too large. Nothing of it is left" in line
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
@layouts
def test_a_full_disk_is_an_os_error(layout: str, tmp_path: Path) -> None:
    """At the very begin, in the midst, and at the end, when only what HDF5 keeps about the data is left to write."""
    check_full_disks(tmp_path / "f", layout, [10, 1000, BYTES // 2, BYTES + 3000])


@pytest.mark.slow
@layouts
def test_disks_that_are_full_anywhere(layout: str, tmp_path: Path) -> None:
    assert run(tmp_path / "f", layout).stdout == "complete\n"
    size = (tmp_path / "f").stat().st_size
    (tmp_path / "f").unlink()
    near_the_end = range(size - 20_000, size, 97)
    check_full_disks(tmp_path / "f", layout, [*range(0, size, size // 100 + 1)[1:], *near_the_end, size - 1])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB, where mounting one is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
@layouts
def test_no_space_left(layout: str, small_disk: Path) -> None:
    (small_disk / "f").write_bytes(b"older")
    (small_disk / "ballast").write_bytes(bytes(3 << 19))
    done = run(small_disk / "g", layout)
    assert done.stdout.startswith(f"OutputError {errno.ENOSPC} "), done.stdout + done.stderr
    assert "No space left on device" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in small_disk.iterdir()} == {"f", "ballast"}


@layouts
def test_a_killed_process_leaves_no_file_and_is_no_hindrance(layout: str, tmp_path: Path) -> None:
    done = run(tmp_path / "f", layout, "kill")
    assert (done.returncode, done.stdout) == (-9, "written\n")
    assert [path.name for path in tmp_path.iterdir()] == [".f.partial"]
    with create(tmp_path / "f", layout) as writer:
        writer.append(zeros)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert number_of_sentences(tmp_path / "f", layout) == 1


@pytest.mark.slow
@layouts
def test_forked_children_and_forgotten_writers(layout: str, tmp_path: Path) -> None:
    """A child leaves its parent's file alone, and HDF5 does not call Python when that has ended."""
    done = run(tmp_path / "f", layout, "fork")
    assert (done.returncode, done.stdout, done.stderr) == (0, "complete\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert number_of_sentences(tmp_path / "f", layout) == 300


def test_a_forked_child_can_not_write(tmp_path: Path) -> None:
    with create(tmp_path / "f", "packed") as writer:
        child = os.fork()
        if not child:
            try:
                writer.append(zeros)
            except ProcessError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@layouts
def test_an_exception_leaves_what_was_there(layout: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"older")
    with pytest.raises(ZeroDivisionError), create(tmp_path / "f", layout, overwrite=True) as writer:
        writer.append(zeros[: 1 // 0])
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"older"
    with pytest.raises(InputValueError, match=r"must be open to be written.*was given up.*Make it anew"):
        writer.append(zeros)
    with pytest.raises(InputValueError, match="was given up"):
        writer.close()


@layouts
def test_nothing_is_there_before_the_end(layout: str, tmp_path: Path) -> None:
    with create(tmp_path / "new" / "folder" / "f", layout) as writer:
        writer.append(zeros)
        assert writer.path == str(tmp_path / "new" / "folder" / "f")
        assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [".f.partial"]
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["f"]
    writer.close()
    with pytest.raises(InputValueError, match="which is complete"):
        writer.append(zeros)


@layouts
def test_overwriting_is_asked_for(layout: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"older")
    with pytest.raises(InputValueError, match=r"must not be there yet.*overwrite=True"):
        create(tmp_path / "f", layout)
    with create(tmp_path / "f", layout, overwrite=True) as writer:
        assert (tmp_path / "f").read_bytes() == b"older"
        writer.append(zeros)
    assert number_of_sentences(tmp_path / "f", layout) == 1


def test_a_file_that_comes_meanwhile_stays(tmp_path: Path) -> None:
    writer = create(tmp_path / "f", "packed")
    (tmp_path / "f").write_bytes(b"newer")
    with pytest.raises(InputValueError, match="must not be there yet"):
        writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"newer"


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    """Of one process or of two: locks of files don't care."""
    with create(tmp_path / "f", "elmo") as writer:
        writer.append(zeros)
        with pytest.raises(InputValueError, match="by one process at a time"):
            create(tmp_path / "f", "elmo")
        writer.append(zeros)
    assert number_of_sentences(tmp_path / "f", "elmo") == 2


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "f")
    write_store(tmp_path / "link", features=features_of(metadata_of()))
    write_store(tmp_path / "link", features=features_of(metadata_of()), overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["f"]


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError) as error:
        create(tmp_path / "file" / "f", "packed")
    assert error.value.errno in (errno.EEXIST, errno.ENOTDIR)
    with pytest.raises(InputValueError, match="must be that of a file"):
        create(tmp_path, "packed")
    with pytest.raises(OutputError) as error:
        create(Path("/proc/f.hdf5"), "packed")
    assert "could not be written" in str(error.value)
    with pytest.raises(OutputError) as error:
        create(tmp_path / ("long" * 100), "packed")
    assert error.value.errno == errno.ENAMETOOLONG


def interrupted(folder: Path, layout: str, seconds: list[float]) -> int:
    """Writes files, each interrupted after some time; returns how many are complete."""
    features = np.zeros((300, 3, 4), np.float32)
    # Before the first interrupt: a module that is half imported would be no fault of ours.
    with create(folder / "first", layout) as writer:
        writer.append(features)
    (folder / "first").unlink()

    def ring(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for number, delay in enumerate(seconds):
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                with create(folder / str(number), layout) as writer:
                    for _ in range(200):
                        writer.append(features)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    names = {path.name for path in folder.iterdir()}
    assert names <= set(map(str, range(len(seconds))))
    assert {number_of_sentences(folder / name, layout) for name in names} <= {200}
    return len(names)


def interrupted_at(step: int, work: Callable[[], object]) -> bool:
    """Whether `work` has so many steps in the files that write; it is interrupted there."""
    steps = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal steps
        if Path(frame.f_code.co_filename).name in ("partial_file.py", "uninterrupted.py", "weakref.py"):
            steps += event in ("line", "return")
            if steps == step:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.slow
def test_an_interrupt_while_a_file_is_made_leaves_nothing(tmp_path: Path) -> None:
    """Neither a file nor a lock: the next one of the name can be made."""

    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    made: list[PartialFile] = []
    before, step = descriptors(), 1
    while interrupted_at(step, lambda: made.append(PartialFile(tmp_path / "f"))):
        assert (made, list(tmp_path.iterdir()), descriptors()) == ([], [], before), step
        step += 1
    assert step > 20
    made.pop().discard()


# An interrupt in a destructor, of pyarrow for example, goes no further.
ignore_unraisable = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
@ignore_unraisable
@layouts
def test_interrupts_at_any_time(layout: str, tmp_path: Path) -> None:
    """Ctrl-C raises wherever Python is, which may be in the midst of HDF5's writing: the file is whole or not there."""
    assert interrupted(tmp_path, layout, np.linspace(1e-4, 0.03, 25).tolist()) < 25


@pytest.mark.slow
@ignore_unraisable
@layouts
def test_many_interrupts(layout: str, tmp_path: Path) -> None:
    assert 0 < interrupted(tmp_path, layout, np.linspace(1e-4, 0.2, 500).tolist()) < 500


def test_what_is_uninterrupted_ends_first() -> None:
    events: list[int | str] = []

    def work() -> None:
        signal.raise_signal(signal.SIGALRM)
        for number in range(3):
            time.sleep(0.01)
            events.append(number)

    def ring(*_: object) -> None:
        events.append("signal")
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(KeyboardInterrupt):
            uninterrupted(work)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert sorted(events, key=str) == [0, 1, 2, "signal"]
    with pytest.raises(ZeroDivisionError):
        uninterrupted(lambda: 1 / 0)
