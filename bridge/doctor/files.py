"""The config that names the weights, and the weights themselves."""

# ruff: noqa: PLC0415 - h5py and NumPy may be missing

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bridge.doctor.findings import Finding, note, ok, problem
from bridge.errors import BridgeError
from bridge.resources.config import REMOTE, ElmoConfig

if TYPE_CHECKING:
    from bridge.doctor.checkpoint_problems import Look

CONFIG_VARIABLES = ("ELMO_CONFIG", "ELMO_OPTIONS_FILE", "ELMO_WEIGHT_FILE")


def resolve_config(config: str | None) -> tuple[ElmoConfig | None, list[Finding]]:
    """The weights to look at: those given, else the environment's, else the demo model.

    Returns:
        The config, None if it can't be read; and what was found.
    """
    named = config is not None or any(os.environ.get(name) for name in CONFIG_VARIABLES)
    try:
        resolved = ElmoConfig.load(config if named else "demo")
    except BridgeError as error:
        return None, [problem("config", str(error), "Correct it, or give another --config.")]
    if not named:
        return resolved, [
            note("config", "No weights were named: the demo model is looked at.", "Name yours with --config.")
        ]
    return resolved, [ok("config", f"{resolved}, from {resolved.weight_origin}.")]


def is_demo(config: ElmoConfig) -> bool:
    """Whether these are the files of the demo model."""
    return config == ElmoConfig.load("demo")


def check_files(config: dict[str, Any], download: bool) -> Iterator[Finding | str]:
    """Looks at both files, to the last number: run it in a fresh process.

    Args:
        config: the fields of an `ElmoConfig`.
        download: whether files at a URL may be downloaded.
    """
    from bridge.doctor.checkpoint_problems import look_at

    yield "reading the files"
    elmo_config = ElmoConfig(**config)
    look = look_at(elmo_config, download)
    if look.problems and not download and _lacks_downloads_alone(elmo_config, look):
        yield note(
            "files",
            "The files are not downloaded yet, so that they were not looked at.",
            "They are downloaded when they are first used. To do it now, give",
            "elmo-bridge doctor --download",
        )
        return
    for message in look.problems:
        yield problem("files", message, "Mend that, and look again with `elmo-bridge inspect`, which takes a second.")
    if look.checkpoint and not look.problems:
        megabytes, fingerprint = look.checkpoint.weight_file.stat().st_size / 1e6, look.checkpoint.fingerprint
        yield ok("files", f"Options and weights belong together ({megabytes:.1f} MB); fingerprint {fingerprint}.")


def as_arguments(config: ElmoConfig) -> dict[str, Any]:
    """The fields of a config as JSON values, for `check_files`."""
    return dataclasses.asdict(config)


def _lacks_downloads_alone(config: ElmoConfig, look: Look) -> bool:
    """Whether all that is wrong is that files at a URL are not here."""
    pairs = ((config.options_file, look.options_file), (config.weight_file, look.weight_file))
    missing = [bool(REMOTE.match(path)) for path, local in pairs if local is None]
    return all(missing) and len(missing) == len(look.problems)
