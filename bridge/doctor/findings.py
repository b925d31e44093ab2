"""What doctor finds: `Finding`, and all of them as a `Report`, which is the schema of `elmo-bridge doctor --json`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

Status = Literal["ok", "note", "problem", "skipped"]

REPORT_IT = "If the packages are those that were tested, report it with the output of `elmo-bridge doctor --json`."

# `user:password@` and `?signature=...` of URLs.
URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"]+@")
URL_QUERY = re.compile(r"([a-z][a-z0-9+.-]+://[^\s?'\"]+)\?[^\s'\"]+", re.IGNORECASE)


def _printable(text: Any) -> Any:
    """With escapes for what UTF-8 has no form of: file names may hold any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(text, str) else text


Words = Annotated[str, BeforeValidator(_printable)]


class Finding(BaseModel):
    """One thing that was looked at.

    Attributes:
        check: what was looked at, such as `"packages"`.
        status: `"ok"`; `"note"`: works, and you may want to know; `"problem"`: something of the bridge does not work;
            `"skipped"`: could not or need not be looked at.
        found: what was found, in words.
        remedy: how to mend it, in words; only of notes, problems and what was skipped.
        command: a line for a shell that mends it, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    status: Status
    found: Words
    remedy: Words | None = None
    command: Words | None = None


class Report(BaseModel):
    """Everything that doctor found.

    Attributes:
        schema_version: 1: fields may be added under it, none is renamed, removed or given another meaning.
        bridge_version: of this package.
        python: version of Python.
        platform: operating system and processor.
        packages: the version of each package that the bridge uses, None where it is not installed.
        config: which weights were looked at.
        seconds: how long it took.
        problems: how many findings are problems; the exit code is 1 if there are any.
        findings: all of them, in the order in which the checks are listed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    bridge_version: str
    python: str
    platform: str
    packages: dict[str, str | None]
    config: Words
    seconds: float
    problems: int
    findings: list[Finding]


# A check yields findings, and where it may die, the step that it begins: a message of its death names the last one.
Check = Callable[..., Iterable[Finding | str]]


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check=check, status="ok", found=found)


def note(check: str, found: str, remedy: str | None = None, command: str | None = None) -> Finding:
    """It works, and you may want to know."""
    return Finding(check=check, status="note", found=found, remedy=remedy, command=command)


def problem(check: str, found: str, remedy: str | None = None, command: str | None = None) -> Finding:
    """Something of the bridge does not work."""
    return Finding(check=check, status="problem", found=found, remedy=remedy, command=command)


def skipped(check: str, found: str, remedy: str | None = None, command: str | None = None) -> Finding:
    """It could not, or need not, be looked at."""
    return Finding(check=check, status="skipped", found=found, remedy=remedy, command=command)


def findings_of(name: str, check: Check, *arguments: Any) -> Iterator[Finding | str]:
    """Runs a check; an exception that leaves it is a problem."""
    step = ""
    try:
        for item in check(*arguments):
            if isinstance(item, str):
                step = f" at {item!r}"
            yield item
    except Exception as error:  # a crashed check is a finding: broken packages raise whatever they like
        yield problem(name, f"It failed{step} with {type(error).__name__}: {error}", REPORT_IT)


def without_secrets(text: str) -> str:
    """The text without credentials and queries of URLs, and with `~` for the home folder: it goes into bug reports."""
    text = URL_CREDENTIALS.sub("***@", text)
    text = URL_QUERY.sub(r"\1?***", text)
    home = os.path.expanduser("~").rstrip(os.sep)
    return re.sub(rf"(?<!\w){re.escape(home)}(?![\w.-])", "~", text) if home else text
