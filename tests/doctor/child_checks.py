"""Checks that end in every way a process can end: `test_processes.py` runs them in children."""

import os
import signal
import sys
import time
from collections.abc import Iterator

from bridge.doctor.findings import Finding, ok


def sound(word: str, number: int) -> Iterator[Finding | str]:
    print("a library greets on stdout")
    print("and on stderr", file=sys.stderr)
    yield "the first step"
    yield ok("sound", f"{word} {number}")


def aborts() -> Iterator[Finding | str]:
    yield ok("aborts", "found before")
    yield "the last step"
    print("LLVM ERROR: inconsistency\n\n", file=sys.stderr, flush=True)
    os.abort()


def is_killed() -> Iterator[Finding | str]:
    yield ok("is killed", "found before")
    os.kill(os.getpid(), signal.SIGKILL)


def hangs() -> Iterator[Finding | str]:
    yield ok("hangs", "found before")
    yield "waiting"
    time.sleep(600)


def exits() -> Iterator[Finding | str]:
    yield "leaving"
    sys.exit(7)


def fails() -> Iterator[Finding | str]:
    yield ok("fails", "found before")
    yield "dividing"
    raise ZeroDivisionError("by nought")


def writes_much() -> Iterator[Finding | str]:
    for _ in range(20_000):
        print("x" * 100, file=sys.stderr)
    yield ok("writes much", "\u00e4 \u732b\n\x00")
