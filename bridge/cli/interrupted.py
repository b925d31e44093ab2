"""What a training's command says after Ctrl-C: `saying_how_to_go_on`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


@contextmanager
def saying_how_to_go_on(run_folder: Path, *, overwrite: bool) -> Iterator[None]:
    """Says after Ctrl-C how the run goes on; or that an older one, which it was to replace, is still there.

    Args:
        run_folder: where the training writes.
        overwrite: whether it replaces a run.

    Raises:
        KeyboardInterrupt: that of the training.
    """
    before = _written(run_folder)
    try:
        yield
    except KeyboardInterrupt:
        if overwrite and before is not None and _written(run_folder) == before:
            typer.echo(f"interrupted; the run in {run_folder} was not replaced", err=True)
        else:
            instead = " instead of --overwrite" if overwrite else ""
            typer.echo(f"interrupted; the same command with --resume{instead} continues", err=True)
        raise


def _written(run_folder: Path) -> tuple[int, int] | None:
    """Which `run.json` there is: that of a new run is a new file, even where it says the same."""
    try:
        found = (run_folder / "run.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
