"""Mutants in a process of their own, which a library may crash, hang or fill: `run_mutants`.

    python -m fuzz.worker KIND SEED START STOP ORIGINALS FOLDER

prints a line of JSON before, during and after every mutant. Of one mutant alone it leaves the files in FOLDER.
"""

import contextlib
import faulthandler
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# For a mutant: all are of a few KB. The time is long for machines that do other things.
SECONDS = 30
BYTES = 2 << 30
TESTS = Path(__file__).parents[1]


class Result(NamedTuple):
    """What became of a mutant.

    Attributes:
        number: of the mutant.
        done: what was changed.
        outcome: `refused`, `same`, `other`; `unmade` where HDF5 died while it wrote the mutant; or what went wrong.
    """

    number: int
    done: str
    outcome: str

    @property
    def is_sound(self) -> bool:
        return self.outcome in ("refused", "same", "other", "unmade")


def run_mutants(kind: str, seed: int, numbers: range, originals: Path, folder: Path) -> list[Result]:
    """Runs mutants one after the other in a process, and in a new one behind each that ended the old one."""
    results: list[Result] = []
    start = numbers.start
    while start < numbers.stop:
        found = list(_run(kind, seed, start, numbers.stop, originals, folder))
        assert found, "the worker did nothing"
        results += found
        start = found[-1].number + 1
    return results


def _run(kind: str, seed: int, start: int, stop: int, originals: Path, folder: Path) -> Iterator[Result]:
    command = [sys.executable, "-m", "fuzz.worker", kind, *map(str, (seed, start, stop, originals, folder))]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert process.stdout is not None
        begun, made = None, ""
        with process, process.stdout as lines:
            for line in lines:
                if not line.startswith("mutant "):
                    continue
                number, done, outcome = json.loads(line.removeprefix("mutant "))
                begun, made = number, done
                if outcome is not None:
                    yield Result(number, done, outcome)
                    begun = None
        if process.returncode != 0:
            errors.seek(0)
            tail = errors.read()[-3000:].decode(errors="replace")
            end = f"the process ended with {process.returncode}: {tail}"
            assert begun is not None, end
            yield Result(begun, made, end if made else "unmade")


def main(kind: str, seed: int, start: int, stop: int, originals: Path, folder: Path) -> None:
    from fuzz.mutants import KINDS, make_mutant, try_mutant

    faulthandler.enable()
    tempfile.tempdir = str(folder)
    sound = folder / "sound"
    shutil.copytree(originals, sound, dirs_exist_ok=True)
    with contextlib.chdir(sound):
        wanted = KINDS[kind].read(sound)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES))
    for number in range(start, stop):
        _tell(number, "", None)
        mutant = folder / f"mutant-{number}"
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        done = make_mutant(kind, seed, number, originals, mutant)
        _tell(number, done, None)
        outcome = try_mutant(kind, done, originals, mutant, wanted)
        faulthandler.cancel_dump_traceback_later()
        _tell(number, done, outcome)
        if stop > start + 1:
            shutil.rmtree(mutant)


def _tell(number: int, done: str, outcome: str | None) -> None:
    print(f"\nmutant {json.dumps((number, done, outcome))}", flush=True)


if __name__ == "__main__":
    first, second, third = map(int, sys.argv[2:5])
    main(sys.argv[1], first, second, third, Path(sys.argv[5]), Path(sys.argv[6]))
