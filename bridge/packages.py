"""The packages that the bridge runs on, and the versions that it was tested with."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from typing import NamedTuple

from bridge.errors import MissingDependencyError

# AllenNLP pins a PyTorch of 2022: with its dependencies it can't be installed.
INSTALL_COMMAND = "pip install --no-deps allennlp==2.10.1"


class Package(NamedTuple):
    """A package of ours.

    Attributes:
        name: as pip calls it.
        minimum: the oldest version that works, as in setup.cfg.
        tested: the version in constraints.txt.
        extra: the extra that needs it; "" if everybody does.
    """

    name: str
    minimum: str
    tested: str
    extra: str = ""

    @property
    def module(self) -> str:
        """How Python calls it."""
        return self.name.replace("-", "_")

    @property
    def command(self) -> str:
        """Installs it."""
        if self.name == "allennlp":
            return INSTALL_COMMAND
        return f'pip install "{self.name}>={self.minimum},<={self.tested}"'


# tests/doctor/test_versions.py compares them with setup.cfg and constraints.txt.
PACKAGES = (
    Package("allennlp", "2.10.1", "2.10.1"),
    Package("cached-path", "1.6", "1.8.10"),
    Package("filelock", "3.12", "3.32.7"),
    Package("h5py", "3.11", "3.14.0"),
    Package("keras", "3.5", "3.15.1"),
    Package("numpy", "1.26", "2.4.6"),
    Package("pydantic", "2.7", "2.14.3"),
    Package("rich", "13", "13.9.4"),
    Package("tensorflow", "2.18", "2.21.0"),
    Package("torch", "2.2", "2.13.0"),
    Package("typer", "0.12", "0.29.2"),
    Package("matplotlib", "3.8", "3.11.2", extra="heads"),
    Package("seqeval", "1.2", "1.2.2", extra="heads"),
    Package("pyarrow", "18", "26.0.1", extra="parquet"),
    Package("ray", "2.40", "2.60.0", extra="ray"),
)


def require_packages(*names: str) -> None:
    """Raises unless packages are there, and new enough. Imports none of them.

    Raises:
        MissingDependencyError: with the command that installs them.
    """
    for package in PACKAGES:
        if package.name in names:
            version = installed_version(package)
            # What a build of its own calls itself says nothing of its age: `0.0.0`, `nightly`.
            if version is None or () < numbers(version) < numbers(package.minimum):
                found = "it is not installed" if version is None else f"version {version} is installed"
                raise MissingDependencyError(
                    f"{package.name} {package.minimum} or newer is needed here, and {found}. Run: {package.command}"
                )


def installed_version(package: Package) -> str | None:
    """The version, `"unknown"` if it has no metadata, None if there is no such package. Imports nothing."""
    if not is_importable(package.module):
        return None
    try:
        return metadata.version(package.name) or "unknown"
    except metadata.PackageNotFoundError:
        # Another distribution has the module, such as tensorflow-cpu; or it is a folder on PYTHONPATH.
        others = metadata.packages_distributions().get(package.module, [])
        return metadata.version(others[0]) if others else "unknown"


def is_importable(module: str) -> bool:
    """Whether a module of that name would be found; it may still fail to import."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # something hides it: an import hook, or None in `sys.modules`
        return False


def numbers(version: str) -> tuple[int, ...]:
    """`"2.13.0+cpu"` as (2, 13); trailing zeros don't count."""
    match = re.match(r"\d+(\.\d+)*", version)
    parts = [int(part) for part in match[0].split(".")] if match else []
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)
