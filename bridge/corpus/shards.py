"""The folder of Parquet files that the machines of a cluster write together: `Shards`."""

from __future__ import annotations

import bisect
import glob
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.corpus.runs import check_parent, check_same_settings
from bridge.corpus.storage import Storage
from bridge.errors import FeatureStoreError, InputValueError, OutputError
from bridge.features.metadata import FeatureMetadata
from bridge.features.parquet import ParquetCompression
from bridge.features.parquet_reader import MANIFEST, RUN
from bridge.locked_folder import holds, locked
from bridge.optional import require
from bridge.resources.config import REMOTE
from bridge.whole_file import put_in_place

FORMAT = 1
_PART = re.compile(r"part-(\d{12,})\.parquet")
_OURS = re.compile(r"(part-\d{12,}\.parquet|_run\.json|_manifest\.json)(\.[0-9a-f]{32}\.partial)?")


class Shards:
    """A folder of features in the making, and finished.

    | file | what it is |
    |---|---|
    | `part-FIRST.parquet` | consecutive sentences and their features, named by the number of the first, in 12 digits |
    | `_run.json` | the settings of the run, while it is not finished |
    | `_manifest.json` | the metadata of the whole with all counts, and its number of parts. It is written last |

    Readers of folders, such as `pyarrow.dataset`, pass over names that begin with `_`.

    A local folder is in the works as `OUTPUT.partial` and gets its name when it is whole. In object storage, where
    nothing can be renamed, it is whole when it has a manifest.

    Args:
        output: a path or URL.

    Raises:
        OutputError: it can't be there.
        ProcessError: another process works on this output.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        name = os.fspath(output)
        self.output: Path | str = (
            name.rstrip("/") if REMOTE.match(name) else Path(os.path.realpath(os.path.expanduser(name)))
        )
        self._lock: int | None = None
        self._run: str | None = None
        self._parts: dict[int, str] = {}
        self._found: list[int] = []
        self.storage = Storage(self.output)
        if isinstance(self.output, Path):
            _check_place(self.output)
            self.storage = Storage(self.output.with_name(f"{self.output.name}.partial"))
            self._lock = locked(Path(self.storage.folder), self.output)
            if MANIFEST in self.storage.names():  # killed before it got its name
                self._publish()
                os.close(self._lock)  # of what is no longer in the works
                self._lock = locked(Path(self.storage.folder), self.output)

    def close(self) -> None:
        """Lets another process work here; what is without work is removed."""
        if self._lock is None or holds(self._lock, Path(self.storage.folder)):
            names = self.storage.names()
            # Only what is ours: where nothing is locked, another process may have begun.
            if RUN in names and not any(map(_PART.fullmatch, names)) and self._run == _run_of(self.storage):
                self.storage.delete(RUN)
                names.remove(RUN)
            if self._lock is not None and not names:
                shutil.rmtree(self.storage.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def finished(self) -> FeatureMetadata | None:
        """What the output says of itself, if it is there and whole."""
        storage = Storage(self.output)
        if MANIFEST not in storage.names():
            return None
        text = json.dumps(_json(storage, MANIFEST).get("metadata"))
        return FeatureMetadata.from_json(text, f"{storage.folder}/{MANIFEST}")

    def begin(self, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> str:
        """Begins a run, or goes on with the one that is here; returns its id.

        Raises:
            InputValueError: there is work, and neither `resume` nor `overwrite` say what to do with it, or it was made
                with other settings.
        """
        names = self._names()
        parts = {int(match[1]): name for name in names if (match := _PART.fullmatch(name))}
        if parts and resume and (RUN in names or not overwrite):
            began = _json(self.storage, RUN)
            check_same_settings(began["settings"], settings, self.storage.folder)
            self._parts, self._found, self._run = parts, sorted(parts), began["run"]
            return began["run"]
        # In object storage nothing is locked: another process may be at work there, and have no part yet.
        if (parts and not overwrite) or (RUN in names and self._lock is None and not (resume or overwrite)):
            raise InputValueError(
                f"The output must not be in the works already. Received: {len(parts)} finished parts in "
                f"{self.storage.folder}. Continue with `resume` (--resume), or discard them with `overwrite` "
                "(--overwrite)."
            )
        for name in sorted(names, key=lambda name: name != MANIFEST):  # first what says that it is whole
            self.storage.delete(name)
        run = self._run = uuid.uuid4().hex
        _write_json(self.storage, RUN, {"format": FORMAT, "run": run, "settings": dict(settings)})
        return run

    def texts_at(self, first: int) -> list[tuple[str, int]] | None:
        """The sentences of the part that begins with number `first`, and their numbers of tokens.

        None if there is none. One that is empty or can't be read is forgotten, to be computed again; its features are
        not looked at.
        """
        if first not in self._parts:
            return None
        parquet, arrow = require("pyarrow.parquet", "ray"), require("pyarrow", "ray")
        try:
            with self.storage.open(self._parts[first]) as file:
                columns = ["sentence_id", "sentence", "timesteps"]
                table = parquet.ParquetFile(file, page_checksum_verification=True).read(columns)
            if len(table) and table["sentence_id"].to_pylist() == list(range(first, first + len(table))):
                return list(zip(table["sentence"].to_pylist(), table["timesteps"].to_pylist(), strict=True))
        except OutputError:  # the storage failed, and not the part
            raise
        except (arrow.ArrowException, OSError, KeyError):
            pass
        del self._parts[first]
        self._found.remove(first)
        return None

    def room_at(self, first: int) -> int | None:
        """Number of sentences between this one and the next part that was found here; None if there is none."""
        place = bisect.bisect_right(self._found, first)
        return self._found[place] - first if place < len(self._found) else None

    def finish(self, metadata: FeatureMetadata, firsts: Sequence[int]) -> None:
        """Makes the output of the parts that begin with these sentences.

        Raises:
            OutputError: one of them is not here.
        """
        wanted = {part_name(first) for first in firsts}
        names = self._names()
        if missing := sorted(wanted.difference(names)):
            raise OutputError(
                "`output` must be storage that every machine of the cluster sees and nobody else changes. Received: "
                f"{self.storage.folder}, in which {missing[0]} is missing. Name a shared folder, or object storage."
            )
        for name in names:
            if name not in wanted and name != RUN:
                self.storage.delete(name)
        manifest = {"format": FORMAT, "parts": len(wanted), "metadata": metadata.model_dump()}
        _write_json(self.storage, MANIFEST, manifest)
        self._publish()

    def _publish(self) -> None:
        """What is whole is put in the place of what was there. A folder can't replace another in one step."""
        if RUN in self.storage.names():
            self.storage.delete(RUN)
        if not isinstance(self.output, Path):
            return
        older = self.output.with_name(f".{self.output.name}.{uuid.uuid4().hex}.older")
        if self.output.exists():
            os.rename(self.output, older)
        put_in_place(Path(self.storage.folder), self.output)
        for older in self.output.parent.glob(f".{glob.escape(self.output.name)}.{'[0-9a-f]' * 32}.older"):
            shutil.rmtree(older, ignore_errors=True)  # those of killed processes, too

    def _names(self) -> list[str]:
        """Names of the files of a run.

        Raises:
            OutputError: there are others.
        """
        names = self.storage.names()
        others = [name for name in names if not _OURS.fullmatch(name)]
        if others:
            raise OutputError(
                f"A run's folder must hold nothing else. Received: {self.storage.folder}, with {others[0]!r} in it. "
                "Name another output, or remove what is not needed."
            )
        return names


def check_run(storage: Storage, run: str) -> None:
    """Checks that a worker sees the run that it works for.

    Raises:
        OutputError: it does not: the storage is not shared, or another run has begun there.
    """
    began = _run_of(storage)
    if began != run:
        raise OutputError(
            "`output` must be storage that every machine of the cluster sees, for one run. Received: "
            f"{storage.folder}, in which {os.uname().nodename} sees {'another run' if began else 'nothing of it'}. "
            "Name a shared folder, or object storage."
        )


def _run_of(storage: Storage) -> str | None:
    """Id of the run that is in the works there, if any."""
    return _json(storage, RUN)["run"] if storage.has(RUN) else None


def write_part(storage: Storage, first: int, table: Any, compression: ParquetCompression | None) -> None:
    """Writes a `features_table` as the part that begins with sentence number `first`."""
    parquet = require("pyarrow.parquet", "ray")

    def write(stream: Any) -> None:
        parquet.write_table(
            table,
            stream,
            row_group_size=max(1, len(table)),
            compression=compression or "none",
            write_page_checksum=True,
            use_dictionary=False,
            write_statistics=["sentence_id"],  # of features they would say nothing
        )

    storage.write(part_name(first), write)


def part_name(first: int) -> str:
    """Name of the part that begins with sentence number `first`."""
    return f"part-{first:012}.parquet"


def _write_json(storage: Storage, name: str, value: Mapping[str, Any]) -> None:
    storage.write(name, lambda stream: stream.write(f"{json.dumps(value, indent=2)}\n".encode()))


def _json(storage: Storage, name: str) -> dict[str, Any]:
    try:
        value = json.loads(storage.read(name))
    except (ValueError, OSError) as error:
        raise FeatureStoreError(
            f"{storage.folder}/{name} must say how the parts beside it were made. Received: {error}. Begin anew with "
            "`overwrite` (--overwrite)."
        ) from error
    if value.get("format") != FORMAT:
        raise FeatureStoreError(
            f"{storage.folder}/{name} must be of format {FORMAT}. Received: {value.get('format')!r}. Continue with the "
            "version of elmo-keras-bridge that made it, or begin anew with `overwrite` (--overwrite)."
        )
    return value


def _check_place(output: Path) -> None:
    is_empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not is_empty and not (output / MANIFEST).is_file():
        raise OutputError(
            f"`output` must be a folder that such a run made, or not exist. Received: {str(output)!r}, which is "
            "something else. Name another one."
        )
    check_parent(output)
