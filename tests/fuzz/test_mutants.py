"""Damaged and unkind files, in processes of their own: an error that says so, or what was promised; never a crash.

A failure names the mutants, and the command that makes one of them again and leaves it in the folder that it prints:

    FUZZ_SEED=0 FUZZ_MUTANT=packed:45 python -m pytest -n 0 -s -m slow tests/fuzz/test_mutants.py

See `fuzz.fuzzing` for other seeds.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from fuzz.fuzzing import FACTOR, SEED
from fuzz.mutants import KINDS
from fuzz.worker import Result, run_mutants

MUTANTS = {
    "weights": 300,
    "elmo": 300,
    "elmo-keys-gzip": 200,
    "packed": 300,
    "packed-lzf": 200,
    "allennlp": 300,
    "parquet": 300,
    "ini": 300,
    "keras": 15,
}
QUICK = {"elmo": 60, "packed": 60, "allennlp": 60, "ini": 40}


def check(kind: str, count: int, folder: Path) -> None:
    originals, work = folder / "originals", folder / "work"
    originals.mkdir()
    work.mkdir()
    KINDS[kind].make(originals)
    numbers = range(max(1, int(count * FACTOR)))
    wanted_kind, _, wanted = os.environ.get("FUZZ_MUTANT", "").partition(":")
    if wanted_kind:
        if wanted_kind != kind:
            pytest.skip("FUZZ_MUTANT is of another kind")
        numbers = range(int(wanted), int(wanted) + 1)
        print(f"the mutant is in {work}")
    results = run_mutants(kind, SEED, numbers, originals, work)
    assert [result.number for result in results] == list(numbers)
    outcomes = Counter(result.outcome for result in results if result.is_sound)
    print(kind, dict(outcomes))
    failures = [result for result in results if not result.is_sound]
    assert not failures, _told(kind, failures)
    assert wanted or (outcomes["refused"] > len(numbers) // 4 and outcomes["same"]), "a test that nothing or all passes"


def _told(kind: str, failures: list[Result]) -> str:
    told = [f"{result.done}\n{result.outcome}" for result in failures[:5]]
    command = "python -m pytest -n 0 -s -m slow tests/fuzz/test_mutants.py"
    commands = [f"FUZZ_SEED={SEED} FUZZ_MUTANT={kind}:{result.number} {command}" for result in failures]
    return "\n".join([f"{len(failures)} mutants did what no file may do:", *told, "To repeat them:", *commands[:20]])


@pytest.mark.parametrize("kind", QUICK)
def test_some_mutants(kind: str, tmp_path: Path) -> None:
    check(kind, QUICK[kind], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MUTANTS)
def test_many_mutants(kind: str, tmp_path: Path) -> None:
    check(kind, MUTANTS[kind], tmp_path)
