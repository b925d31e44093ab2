"""Which weights to use: `ElmoConfig`.

Resolution order: arguments, then `config=` (an INI file or a named model), then the environment, else an error
that lists these ways. Both files always come from one source: a mixture of two models would load and be wrong.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from bridge.errors import ConfigError, InputTypeError, ResourceNotFoundError
from bridge.resources.ini_file import FORM, line_of, read_ini

MODELS_FILE = Path(__file__).with_name("models.ini")
# Any scheme: `cached_path` knows which ones it can fetch. Two letters at least: `C://` is a path of Windows.
REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

# Where the published models are fetched from; links die, so a mirror can be named in the environment.
MODELS_URL_VARIABLE = "ELMO_MODELS_URL"
DEFAULT_VARIABLES = {MODELS_URL_VARIABLE: "https://s3-us-west-2.amazonaws.com/allennlp/models/elmo"}

VARIABLE = r"\$\{(\w+)\}"

WAYS = (
    "Give one of: `config=` with an INI file, a named model or ElmoConfig(options_file, weight_file); "
    "the environment variables ELMO_OPTIONS_FILE and ELMO_WEIGHT_FILE; the environment variable ELMO_CONFIG."
)


@dataclass(frozen=True)
class ElmoConfig:
    """The two files of an ELMo model, and optionally their checksums.

    Args:
        options_file: path or URL of `options.json`. `http(s)://`, `s3://`, `gs://` and `hf://` URLs are fetched
            and cached by `cached_path`; `archive.zip!file` names a file inside an archive.
        weight_file: path or URL of `weights.hdf5`, likewise.
        options_sha256, weight_sha256: hexadecimal SHA-256 that the files must have.
        options_origin, weight_origin: where the paths were read, for error messages only.

    Example:
        >>> ElmoConfig.load("demo")                       # a named model
        >>> ElmoConfig.load("configs/my_model.ini")       # an INI file with an [ELMO] section
        >>> ElmoConfig.load(options_file="options.json", weight_file="weights.hdf5")
        >>> ElmoConfig.load()                             # from the environment, else an error
    """

    options_file: str
    weight_file: str
    options_sha256: str | None = None
    weight_sha256: str | None = None
    options_origin: str = field(default="the argument `options_file`", compare=False, repr=False)
    weight_origin: str = field(default="the argument `weight_file`", compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("options_file", "weight_file"):
            path = getattr(self, name)
            if not _is_path(path):
                raise InputTypeError(
                    f"`{name}` must be a path or URL (a string or path object). "
                    f"Received: {path!r:.80} of type {type(path).__name__}."
                )
            if not os.fspath(path):
                raise ConfigError(f"`{name}` must be a path or URL. Received: an empty string. {WAYS}")
            # Frozen: this is how a field of one is normalised.
            object.__setattr__(self, name, os.fspath(path))
        for name in ("options_sha256", "weight_sha256"):
            digest = getattr(self, name)
            if not isinstance(digest, str | None):
                raise InputTypeError(
                    f"`{name}` must be a string. Received: {digest!r:.80} of type {type(digest).__name__}."
                )
            if digest is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
                raise ConfigError(
                    f"`{name}` must be 64 hexadecimal digits, as `sha256sum` prints. Received: {digest!r:.80}."
                )

    @classmethod
    def load(
        cls,
        config: str | os.PathLike[str] | ElmoConfig | None = None,
        *,
        options_file: str | os.PathLike[str] | None = None,
        weight_file: str | os.PathLike[str] | None = None,
    ) -> ElmoConfig:
        """Resolves which files to use. Opens neither: `Checkpoint.open` does.

        Args:
            config: an INI file with an `[ELMO]` section (`options_file`, `weight_file`, optionally
                `options_sha256` and `weight_sha256`; relative paths are relative to the INI file, and may go up by
                `..`; `~` and `${VAR}` expand, in a URL only one `${VAR}` and at its beginning), the name of a model in
                `ElmoConfig.named_models()`, or an `ElmoConfig`.
            options_file, weight_file: both or neither; they win over `config`. Relative paths are relative to
                the working directory.

        Raises:
            ConfigError: nothing was given and nothing is set, or only one of the two files was.
            ResourceNotFoundError: `config` is neither a file nor a named model.
            InputTypeError: an argument is neither a string nor a path.
        """
        if options_file is not None or weight_file is not None:
            if options_file is None or weight_file is None:
                missing = "options_file" if options_file is None else "weight_file"
                raise ConfigError(
                    "`options_file` and `weight_file` must be given together: both files of a model come from "
                    f"one source. Received: no `{missing}`."
                )
            return cls(options_file, weight_file)  # type: ignore[arg-type]  # made strings there
        if isinstance(config, ElmoConfig):
            return config
        if config is not None:
            return _from_config(config, "the argument `config`")
        return _from_environment()

    def __str__(self) -> str:
        return f"{self.options_file} and {self.weight_file}"

    def to_dict(self) -> dict[str, str | None]:
        """The constructor's arguments, for a config file; where they were read is left out."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.compare}

    @staticmethod
    def named_models() -> list[str]:
        """The names that `config=` accepts beside INI files."""
        return list(read_ini(MODELS_FILE).sections())


def _from_environment() -> ElmoConfig:
    """`ELMO_OPTIONS_FILE` with `ELMO_WEIGHT_FILE`, or `ELMO_CONFIG`; an empty variable counts as not set."""
    options_file, weight_file = os.environ.get("ELMO_OPTIONS_FILE"), os.environ.get("ELMO_WEIGHT_FILE")
    config = os.environ.get("ELMO_CONFIG")
    if config and (options_file or weight_file):
        raise ConfigError(
            "The environment must name one source of weights. Received: ELMO_CONFIG beside ELMO_OPTIONS_FILE or "
            "ELMO_WEIGHT_FILE. Unset one of them."
        )
    if options_file and weight_file:
        origins = [f"the environment variable {name}" for name in ("ELMO_OPTIONS_FILE", "ELMO_WEIGHT_FILE")]
        return ElmoConfig(options_file, weight_file, None, None, *origins)
    if options_file or weight_file:
        missing = "ELMO_WEIGHT_FILE" if options_file else "ELMO_OPTIONS_FILE"
        raise ConfigError(
            "ELMO_OPTIONS_FILE and ELMO_WEIGHT_FILE must be set together: both files of a model come from one "
            f"source. Received: no {missing}."
        )
    if config:
        return _from_config(config, "the environment variable ELMO_CONFIG")
    raise ConfigError(
        f"No ELMo weights were named. {WAYS} Named models: {', '.join(ElmoConfig.named_models())} "
        '("demo" comes with this package).'
    )


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str)  # not of bytes


def _from_config(config: str | os.PathLike[str], origin: str) -> ElmoConfig:
    if not _is_path(config):
        raise InputTypeError(
            f"`config` must be an INI file, a named model or an ElmoConfig. Received: {config!r:.80} of type "
            f"{type(config).__name__}."
        )
    models = ElmoConfig.named_models()
    if isinstance(config, str) and config in models:
        return _from_section(MODELS_FILE, config, f"the named model {config!r}")
    # `os.path` rather than `Path`: for it no path is too long or has an unknown `~user`.
    path = Path(os.path.expanduser(config)).absolute()
    if not os.path.isfile(path):
        kind = "is a folder" if os.path.isdir(path) else "is not there"
        close = difflib.get_close_matches(str(config), models, n=1)
        inside = os.path.join(os.fspath(config), "elmo.ini")  # as a run folder has it
        raise ResourceNotFoundError(
            f"`config` must be an INI file or one of the named models ({', '.join(models)}). Received: "
            f"{os.fspath(config)!r} from {origin}, and {str(path)!r} {kind}."
            + (f" Give the file in it: {inside!r}." if os.path.isfile(path / "elmo.ini") else "")
            + (f" Did you mean {close[0]!r}?" if close else "")
        )
    return _from_section(path, "ELMO", os.path.expanduser(config))


def _from_section(path: Path, name: str, described: str) -> ElmoConfig:
    """One section of an INI file; `described` is how messages call it."""
    parser = read_ini(path)
    matches = [section for section in parser.sections() if section.lower() == name.lower()]
    if len(matches) != 1:
        raise ConfigError(
            f"An INI file must have one section [{name}]. Received: {described} with "
            f"{', '.join(f'[{section}]' for section in parser.sections())[:200] or 'no section'}. {FORM}"
        )
    section = parser[matches[0]]
    required, optional = ("options_file", "weight_file"), ("options_sha256", "weight_sha256")
    problems = [f"`{key}` is missing or empty" for key in required if not section.get(key)]
    problems += [f"`{key}` is not a known key" for key in section if key not in required + optional]
    # In this format an indented line belongs to the value above it; no path means that.
    problems += [f"`{key}` takes in the line below it: do not indent that" for key in section if "\n" in section[key]]
    if problems:
        raise ConfigError(
            f"Section [{matches[0]}] must have {' and '.join(required)}, and may have {' and '.join(optional)}. "
            f"Received: {described}, in which {', '.join(problems)[:1000]}."
        )
    # Of the packaged file no user knows a line.
    lines = {key: "" if path == MODELS_FILE else f", line {line_of(path, matches[0], key)}" for key in section}
    origins = {key: described + line for key, line in lines.items()}
    files = [_relative_to(path.parent, _expand(section[key], origins[key])) for key in required]
    digests = [section.get(key) or None for key in optional]
    try:
        return ElmoConfig(*files, *digests, *(origins[key] for key in required))
    except ConfigError as error:  # a checksum, and it does not know where it was read
        raise ConfigError(f"{error} It was read from section [{matches[0]}] of {described}.") from None


def _expand(value: str, origin: str) -> str:
    """Replaces every `${VAR}` by the environment's value."""

    def replacement(match: re.Match[str]) -> str:
        name = match[1]
        found = os.environ.get(name) or DEFAULT_VARIABLES.get(name)
        if not found:
            raise ConfigError(
                f"Every ${{VAR}} in an INI file must be set in the environment. Received: {value!r} from {origin}, "
                f"and {name} is not set. Set it, or write the path itself."
            )
        return found.rstrip("/") if name == MODELS_URL_VARIABLE else found

    # A stranger's INI file must not send what is in the environment, such as a password, to a server of its choice.
    rest = value if REMOTE.match(value) else re.sub(rf"^{VARIABLE}(?=[/!]|$)", "", value)
    inside = re.search(VARIABLE, rest)
    if inside is None or not REMOTE.match(value):  # else it need not be set
        expanded = re.sub(VARIABLE, replacement, value)
    if inside is not None and (REMOTE.match(value) or REMOTE.match(expanded)):
        raise ConfigError(
            "A ${VAR} in a URL of an INI file must stand at its beginning, followed by `/`, for all of "
            f"`https://server/folder`: anything else is sent to a server. Received: {value!r} from {origin}, with "
            f"{inside[0]} in another place. Write the URL itself, or put the whole of it into a variable."
        )
    return expanded


def _relative_to(folder: Path, path: str) -> str:
    """A path of an INI file in that folder, `~` expanded; URLs stay as they are."""
    return path if REMOTE.match(path) else str(folder / os.path.expanduser(path))
