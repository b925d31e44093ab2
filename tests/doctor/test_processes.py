"""Whatever a check does to its process, doctor gets its findings and lives on."""

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from bridge.doctor.findings import ok
from bridge.doctor.processes import in_fresh_process


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The children import from where we do."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("child_checks")


def test_findings_come_back_and_noise_does_not(checks: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert in_fresh_process("sound", checks.sound, "word", 3, timeout=60) == [ok("sound", "word 3")]
    assert in_fresh_process("much", checks.writes_much, timeout=60) == [ok("writes much", "\u00e4 \u732b\n\x00")]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_abort_is_a_problem_with_its_step_and_last_words(checks: ModuleType) -> None:
    before, death = in_fresh_process("aborting", checks.aborts, timeout=60)
    assert before == ok("aborts", "found before")
    assert (death.check, death.status) == ("aborting", "problem")
    assert death.found == (
        "Its process was killed by SIGABRT at 'the last step'; its last words: \"LLVM ERROR: inconsistency\"."
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_kill_may_be_for_memory(checks: ModuleType) -> None:
    before, death = in_fresh_process("killed", checks.is_killed, timeout=60)
    assert before.status == "ok"
    assert death.found == "Its process was killed by SIGKILL."
    assert death.remedy is not None
    assert "memory" in death.remedy


@pytest.mark.slow
def test_a_hang_ends_with_the_timeout(checks: ModuleType) -> None:
    start = time.monotonic()
    before, death = in_fresh_process("hanging", checks.hangs, timeout=5)
    assert time.monotonic() - start < 30
    assert before == ok("hangs", "found before")
    assert death.found == "Its process did not end within 5 s and was killed at 'waiting'."


def test_an_exit_and_an_exception_are_problems(checks: ModuleType) -> None:
    (death,) = in_fresh_process("exiting", checks.exits, timeout=60)
    assert death.found == "Its process ended with exit code 7 at 'leaving'."
    before, failure = in_fresh_process("failing", checks.fails, timeout=60)
    assert before.status == "ok"
    assert (failure.check, failure.status) == ("failing", "problem")
    assert failure.found == "It failed at 'dividing' with ZeroDivisionError: by nought"
