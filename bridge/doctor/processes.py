"""Checks in processes of their own: whatever a library does there, doctor goes on.

A library that aborts, is killed for memory, hangs or can't be imported ends the child alone. The child writes each
finding to a file as soon as it has it, so that what it found before its death is kept.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.doctor.findings import Check, Finding, findings_of, problem
from bridge.doctor.gpus import GROWTH_VARIABLE

# What the child runs. It imports from where this process does: `python -c` by itself would put the working directory
# first, and `sys.path` here may have been set by the program that calls.
CHILD = """
import json, sys
job = json.load(sys.stdin)
sys.path[:] = job["path"]
from bridge.doctor.processes import run_job
run_job(job)
"""

_running: set[subprocess.Popen[bytes]] = set()


def in_fresh_process(name: str, check: Check, *arguments: Any, timeout: float) -> list[Finding]:
    """Runs a check in a fresh Python process.

    Args:
        name: how findings call the check, should it fail or die.
        check: a function at the top of a module that imports nothing heavy.
        *arguments: of the check; JSON values.
        timeout: seconds after which the process is killed.

    Returns:
        What the check found, and a problem if its process was killed, failed or did not end.
    """
    with tempfile.TemporaryDirectory(prefix="elmo-bridge-doctor-") as folder:
        report, errors = Path(folder, "report.jsonl"), Path(folder, "stderr.txt")
        report.touch()
        job = {
            "path": [str(entry) for entry in sys.path],
            "report": str(report),
            "name": name,
            "module": check.__module__,
            "function": check.__qualname__,
            "arguments": arguments,
        }
        with open(errors, "wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                # Two run at a time, and one would take all memory of a GPU.
                env={GROWTH_VARIABLE: "true", **os.environ},
            )
            _running.add(process)
            try:
                process.communicate(json.dumps(job).encode(), timeout=timeout)
                ending = _ending(process.returncode)
            except subprocess.TimeoutExpired:
                ending = f"Its process did not end within {timeout:g} s and was killed"
            finally:  # at Ctrl-C, too
                process.kill()
                process.wait()
                _running.discard(process)
        findings, step = _read(report)
        if ending:
            findings.append(_death(name, ending, step, errors.read_text(encoding="utf-8", errors="replace")))
        return findings


def kill_processes() -> None:
    """Ends the processes of all checks that run, in whatever thread."""
    for process in list(_running):
        process.kill()


def run_job(job: dict[str, Any]) -> None:
    """The child's part: runs the check, and appends each finding and step to the report, a line each."""
    check = getattr(importlib.import_module(job["module"]), job["function"])
    with open(job["report"], "a", encoding="utf-8") as report:
        for item in findings_of(job["name"], check, *job["arguments"]):
            line = json.dumps(item) if isinstance(item, str) else item.model_dump_json()
            report.write(f"{line}\n")
            report.flush()


def _read(report: Path) -> tuple[list[Finding], str]:
    """The findings, and the last step that the check began."""
    findings, step = [], ""
    # What follows the last line feed is half a line, of a process that died.
    for line in report.read_text(encoding="utf-8").split("\n")[:-1]:
        item = json.loads(line)
        if isinstance(item, str):
            step = item
        else:
            findings.append(Finding.model_validate(item))
    return findings, step


def _ending(returncode: int) -> str:
    """How a process ended, if not well."""
    if returncode >= 0:
        return f"Its process ended with exit code {returncode}" if returncode else ""
    try:
        name = signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        name = f"signal {-returncode}"
    return f"Its process was killed by {name}"


def _death(name: str, ending: str, step: str, errors: str) -> Finding:
    where = f" at {step!r}" if step else ""
    last_words = f'; its last words: "{_last_line(errors.splitlines()):.300}"' if errors.strip() else ""
    remedies = {
        "SIGKILL": "The system does that when memory runs out: free some.",
        "did not end": "Is the machine very busy? Try again. Else a library hangs: install the tested versions.",
    }
    remedy = next((text for sign, text in remedies.items() if sign in ending), "Install the tested versions.")
    return problem(name, f"{ending}{where}{last_words}.", remedy)


def _last_line(lines: Sequence[str]) -> str:
    return next(line.strip() for line in reversed(lines) if line.strip())
