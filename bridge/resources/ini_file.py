"""Reading INI files."""

from __future__ import annotations

import configparser
import io
import re
import textwrap
from pathlib import Path

from bridge.errors import ConfigError

# One that names two files has a few hundred bytes.
MAX_BYTES = 1 << 20
FORM = "Write a line [ELMO], and below it the lines `options_file = PATH` and `weight_file = PATH`, as UTF-8 text."


def read_ini(path: Path) -> configparser.ConfigParser:
    """Parses an INI file.

    Raises:
        ConfigError: it is none, or larger than any.
    """
    # No interpolation: `%` is an ordinary character of paths and URLs.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise configparser.Error(f"it has more than {MAX_BYTES} bytes")
        # utf-8-sig: Windows editors begin a file with a byte order mark. Universal newlines, as of a text file.
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
        parser.read_string(text, source=str(path))
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"`config` must be an INI file with an [ELMO] section. Received: {path}, which can't be read as one: "
            f"{textwrap.shorten(str(error), 300)}. {FORM} "
            "The files of a model themselves are given as ElmoConfig(options_file, weight_file)."
        ) from error
    return parser


def line_of(path: Path, section: str, key: str) -> int:
    """Line number of a key, which configparser does not keep."""
    current = ""
    # Not `splitlines()`: to configparser a form feed or U+2028 ends no line.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if header := re.match(r"\[(?P<name>.+)\]", line.strip()):
            current = header["name"]
        elif current == section and re.match(rf"\s*{re.escape(key)}\s*[=:]", line, re.IGNORECASE):
            return number
    raise AssertionError(f"configparser found {key} in [{section}], and a scan of {path} did not")
