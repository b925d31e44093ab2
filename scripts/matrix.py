"""Runs the tests on every Python from 3.11 to 3.13 that the machine has, and prints a table.

Each Python gets an environment of its own, `.matrix/3.12` and so on, by `make setup`, and runs what `make test` runs.
Where pip finds PyTorch's CUDA build, that is the one tested. Needs nothing but Python and make.

    make matrix
    python scripts/matrix.py --python 3.12 --target test
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

VERSIONS = ("3.11", "3.12", "3.13")
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = """
from importlib.metadata import version
import torch
build = "" if torch.version.cuda is None else f" for CUDA {torch.version.cuda}"
print(torch.__version__ + build, version("tensorflow"), version("numpy"), sep=" | ")
"""


def find_python(version: str) -> str | None:
    """A working interpreter: on the PATH, where pyenv's shims may not work, or one of pyenv's own."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python{version}")))]
    for path in filter(None, candidates):
        if subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def run_tests(version: str, python: str, target: str) -> tuple[str, bool]:
    """Runs the tests on one Python; returns its line of the table, and whether all is well."""
    folder = ROOT / ".matrix" / version
    report = folder / f"{target}.xml"
    make = ["make", f"PYTHON={python}", f"VENV={folder.relative_to(ROOT)}"]
    print(f"Python {version}: {python}", flush=True)
    if subprocess.run([*make, "setup"], cwd=ROOT, check=False).returncode:
        return f"| {version} | | | | set-up failed | |", False
    report.unlink(missing_ok=True)
    packages = subprocess.check_output([folder / "bin" / "python", "-c", PACKAGES], text=True).strip()
    options = f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml={report} -o junit_family=xunit1"
    begin = time.monotonic()
    done = subprocess.run([*make, target], cwd=ROOT, env={**os.environ, "PYTEST_ADDOPTS": options}, check=False)
    seconds = time.monotonic() - begin
    outcome = "tests did not run"
    if report.exists():
        suite = next(ElementTree.parse(report).iter("testsuite"))
        tests, failures, errors, skipped = (
            int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        )
        failed = failures + errors
        outcome = f"{tests - failed - skipped} passed, {failed} failed, {skipped} skipped"
    return f"| {version} | {packages} | {outcome} | {seconds:.0f} s |", done.returncode == 0


def main() -> int:
    """Prints the table; 1 if something failed anywhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", choices=VERSIONS, nargs="+", default=VERSIONS, help="which ones")
    parser.add_argument("--target", choices=("test", "slow"), default="test", help="what to run, as of make")
    arguments = parser.parse_args()
    rows = []
    for version in arguments.python:
        python = find_python(version)
        rows.append(
            run_tests(version, python, arguments.target) if python else (f"| {version} | | | | not here | |", True)
        )
    print("\n| Python | torch | TensorFlow | NumPy | tests | time |\n|---|---|---|---|---|---|")
    print(*(line for line, _ in rows), sep="\n")
    return int(not all(well for _, well in rows))


if __name__ == "__main__":
    sys.exit(main())
