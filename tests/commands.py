"""`elmo-bridge` as a process of its own, and Ctrl-C for it, as a person presses it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from typing import Any

# A process that was started in the background ignores Ctrl-C, and so do its children.
HEEDING_CONTROL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from bridge.cli.main import main
main()
"""
DROPPED = re.compile(r"^Exception ignored in.*?\nKeyboardInterrupt[^\n]*\n", re.DOTALL | re.MULTILINE)


def start_command(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Starts `elmo-bridge` with arguments, and `Popen`'s options."""
    command = [sys.executable, "-c", HEEDING_CONTROL_C, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)


def press_control_c(process: subprocess.Popen[str], again: float = 30) -> tuple[str, str]:
    """Presses until the process ends, every so many seconds; returns its stdout and stderr.

    Python drops an interrupt that falls into a destructor. What it says of that is left out.
    """
    try:
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, errors = process.communicate(timeout=again)
                return output, DROPPED.sub("", errors)
    finally:
        process.kill()
    raise AssertionError("it goes on")
