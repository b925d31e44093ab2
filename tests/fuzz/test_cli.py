"""Fuzzing of the command line: whatever is typed, a usage message, one line of error, or success."""

import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fuzz.fuzzing import SLOW, Entry, fuzz, parametrized
from fuzz.values import tokens
from hypothesis import strategies as st

from bridge.cli.main import main

COMMANDS = {
    "embed": ["--all", "--top", "--average", "--config", "--layout", "--dtype", "--format", "--batch-size", "--state",
              "--resume", "--input-format", "--text-column", "--on-error", "--compression", "--use-sentence-keys"],
    "convert": ["--format", "--layout", "--dtype", "--compression", "--config", "--layer", "--overwrite"],
    "train": ["--dev", "--config", "--epochs", "--task", "--format", "--label-column"],
    "evaluate": ["--format", "--json", "--batch-size"],
    "predict": ["--format", "--batch-size"],
}  # fmt: skip
# Not demo: a run that succeeds takes its time, and other tests look at those.
WORDS = [
    "in.txt",
    "in.tsv",
    "bad.hdf5",
    "missing",
    ".",
    "out",
    "",
    "-1",
    "0",
    "1",
    "packed",
    "text",
    "gzip",
    "--",
    "--help",
    "nothing.ini",
    "9" * 30,
    "é",
    "\udcff",
    "a\nb",
    "[red]",
    "top",
    "float16",
    "bad.ini",
]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from([*COMMANDS, *COMMANDS, "--version", "nonsense", ""]))
    words = st.sampled_from([*WORDS, *WORDS, *COMMANDS.get(command, [])]) | tokens.filter(
        lambda token: "\0" not in token
    )
    return [command, *draw(st.lists(words.filter(lambda word: word != "-"), max_size=6))]


def run(argv: list[str]) -> tuple[Any, str]:
    """The command's exit code and what it wrote to stderr."""
    errors = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        Path("in.txt").write_text("the cat sat\n")
        Path("in.tsv").write_text("sentence\tlabel\nthe cat\tgood\n")
        Path("bad.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        Path("bad.ini").write_text("[ELMO]\n")
        patch.setattr(sys, "argv", ["elmo-bridge", *argv])
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                main()
            except SystemExit as end:
                return end.code, errors.getvalue()
    return 0, errors.getvalue()


def check_end(result: tuple[Any, str], argv: list[str]) -> None:
    code, errors = result
    assert code in (0, None, 1, 2)
    assert "Traceback" not in errors
    assert not code or errors.strip()


TABLE = [
    Entry("elmo-bridge", st.fixed_dictionaries({"argv": command_lines()}), run, check_end, documented=(), examples=15)
]


@parametrized(TABLE)
def test_command_lines(entry: Entry) -> None:
    fuzz(entry)


@pytest.mark.slow
@parametrized(TABLE)
def test_command_lines_for_long(entry: Entry) -> None:
    fuzz(entry, SLOW / 5)
