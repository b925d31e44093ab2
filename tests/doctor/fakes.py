"""Packages that are not what they should be, as folders on the path."""

from pathlib import Path


def package(folder: Path, name: str, code: str = "", version: str | None = None) -> Path:
    """A package of one module; with a version it looks as pip installs it."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text(code, encoding="utf-8")
    if version is not None:
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return folder


def without_packages(folder: Path, *names: str) -> Path:
    """A `sitecustomize` that hides packages from every process that has the folder on its PYTHONPATH."""
    (folder / "sitecustomize.py").write_text(
        f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
""",
        encoding="utf-8",
    )
    return folder
