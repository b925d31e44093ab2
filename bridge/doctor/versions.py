"""The versions of the packages, against the oldest that work and those that were tested."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.doctor.findings import Finding, note, ok, problem, skipped
from bridge.packages import PACKAGES, Package, installed_version, numbers


def check_packages() -> Iterator[Finding]:
    """The version of every package, against the oldest that works and the one that was tested."""
    sound = []
    for package in PACKAGES:
        version = installed_version(package)
        if version is None:
            yield _missing(package)
        elif version == "unknown":
            yield note("packages", f"{package.name} has no version: it is not installed, but a folder.")
        elif numbers(version) < numbers(package.minimum):
            yield problem(
                "packages",
                f"{package.name} {version} is too old: the bridge needs {package.minimum} or newer.",
                "Install a newer one.",
                package.command,
            )
        elif numbers(version) != numbers(package.tested):
            yield note("packages", f"{package.name} is {version}; {package.tested} was tested.")
        else:
            sound.append(f"{package.name} {version}")
    if sound:
        yield ok("packages", f"{', '.join(sound)}: as tested.")


def _missing(package: Package) -> Finding:
    if package.extra:
        return skipped(
            "packages",
            f"{package.name} is not installed; only the extra {package.extra!r} needs it.",
            "If you want it:",
            f'pip install "elmo-keras-bridge[{package.extra}]"',
        )
    return problem("packages", f"{package.name} is not installed.", "Install it.", package.command)
