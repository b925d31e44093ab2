"""Work in progress, beside the output that it will become: `Segments`."""

from __future__ import annotations

import bisect
import json
import os
import re
import struct
import uuid
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge.corpus.runs import check_same_settings
from bridge.errors import FeatureStoreError, InputValueError, OutputError
from bridge.locked_folder import holds, locked
from bridge.whole_file import write_file

FORMAT = 1
_NAME = re.compile(r"segment-\d+\.npz")
# What a run leaves here, finished or not.
_OURS = re.compile(r"segment-\d+(\.partial)?\.npz|run(\.partial)?\.json|whole\.\w+|\.whole\.\w+\.partial")


class Segment(NamedTuple):
    """Consecutive sentences of a corpus and their features.

    Attributes:
        texts: the sentences.
        lengths: int64 `(sentences,)`, numbers of tokens.
        features: `(tokens, *token_shape)`, as they will be stored.
        counts: further numbers, by their names in `FeatureMetadata`.
    """

    texts: list[str]
    lengths: np.ndarray
    features: np.ndarray
    counts: dict[str, int]


class Segments:
    """The folder `OUTPUT.partial`: closed, synced files of consecutive sentences, and what they were made with.

    | file | what it is |
    |---|---|
    | `run.json` | the settings of the run |
    | `segment-FIRST.npz` | a `Segment`, named by the number of its first sentence |
    | `whole.hdf5`, `whole.parquet` | the output, before it gets its name |

    Every file appears under its name when it is whole. NPZ files carry a checksum of each array.

    Args:
        output: the path of the output.

    Raises:
        ProcessError: another process works on this output.
        OutputError: the folder holds something else.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.partial")
        self._settings_file = self.folder / "run.json"
        self._segments: dict[int, Path] = {}
        self._found_firsts: list[int] = []
        self._lock = locked(self.folder, output)
        foreign = [path.name for path in self.folder.iterdir() if not _OURS.fullmatch(path.name)]
        if foreign:
            os.close(self._lock)
            raise OutputError(
                f"The folder of work in progress must hold nothing else. Received: {self.folder}, with {foreign[0]!r} "
                "in it. Name another output, or take away what is there; parts of Parquet are those of --runner ray."
            )

    def close(self) -> None:
        """Lets another process work here; a folder without work is removed."""
        if holds(self._lock, self.folder) and not self._found():
            self.remove()
        os.close(self._lock)

    def remove(self) -> None:
        """Removes the folder: the output is whole."""
        self._clear()
        self.folder.rmdir()

    def _clear(self) -> None:
        # The settings last: a killed process must not leave segments that are nobody's.
        for path in sorted(self.folder.iterdir(), key=lambda path: path == self._settings_file):
            path.unlink()

    def begin(self, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> str:
        """Begins a run, or goes on with the one that is here; returns its id.

        Raises:
            InputValueError: there is work, and neither `resume` nor `overwrite` say what to do with it, or it was made
                with other settings.
        """
        found = self._found()
        if found and resume:
            began = self._settings()
            check_same_settings(began["settings"], settings, self.folder)
            self._segments, self._found_firsts = found, sorted(found)
            return began["run"]
        if found and not overwrite:
            remedy = "" if settings["state"] == "carry" else "Continue with `resume` (--resume), or discard"
            raise InputValueError(
                f"The output must not be in the works already. Received: {len(found)} finished segments in "
                f"{self.folder}. {remedy or 'Discard'} them with `overwrite` (--overwrite)."
            )
        self._clear()
        run = uuid.uuid4().hex
        text = json.dumps({"format": FORMAT, "run": run, "settings": dict(settings)}, indent=2)
        write_file(self._settings_file, lambda path: path.write_text(f"{text}\n", encoding="utf-8"))
        return run

    def run(self) -> str | None:
        """The id of the run whose work is here; None if there is none."""
        return self._settings()["run"] if self._found() else None

    def write(self, first: int, segment: Segment) -> None:
        """Adds the segment that begins with sentence number `first`."""
        texts = [text.encode() for text in segment.texts]

        def write(partial: Path) -> None:
            with open(partial, "wb") as file:
                np.savez(
                    file,
                    lengths=segment.lengths,
                    features=segment.features,
                    texts=np.frombuffer(b"".join(texts), dtype=np.uint8),
                    text_lengths=np.array(list(map(len, texts)), dtype=np.int64),
                    counts=np.frombuffer(json.dumps(segment.counts).encode(), dtype=np.uint8),
                )

        path = self.folder / f"segment-{first:012}.npz"
        write_file(path, write)
        self._segments[first] = path

    def texts_at(self, first: int) -> list[tuple[str, int]] | None:
        """The sentences of the segment that begins with number `first`, and their numbers of tokens.

        None if there is none.

        Raises:
            FeatureStoreError: it is damaged.
        """
        if first not in self._segments:
            return None
        with _opened(self._segments[first]) as arrays:
            return list(zip(_texts(arrays), arrays["lengths"].tolist(), strict=True))

    def room_at(self, first: int) -> int | None:
        """Number of sentences between this one and the next segment that was found here; None if there is none."""
        place = bisect.bisect_right(self._found_firsts, first)
        return self._found_firsts[place] - first if place < len(self._found_firsts) else None

    def counts(self) -> Counter[str]:
        """The further numbers of all segments together.

        Raises:
            FeatureStoreError: a segment is damaged.
        """
        total: Counter[str] = Counter()
        for path in self._segments.values():
            with _opened(path) as arrays:
                total.update(json.loads(arrays["counts"].tobytes()))
        return total

    def size(self) -> int:
        """Bytes of all segments."""
        return sum(path.stat().st_size for path in self._segments.values())

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        """The segments in their order, each read when it is asked for.

        Raises:
            FeatureStoreError: one is damaged.
        """
        for first in sorted(self._segments):
            with _opened(self._segments[first]) as arrays:
                counts = json.loads(arrays["counts"].tobytes())
                segment = Segment(_texts(arrays), arrays["lengths"], arrays["features"], counts)
            yield segment

    def _found(self) -> dict[int, Path]:
        # Files that are not whole have another name.
        whole = (path for path in self.folder.glob("segment-*.npz") if _NAME.fullmatch(path.name))
        return {int(path.stem.split("-")[1]): path for path in whole}

    def _settings(self) -> dict[str, Any]:
        try:
            settings = json.loads(self._settings_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FeatureStoreError(
                f"{self._settings_file} must say what the segments beside it were made with. Received: {error}. Begin "
                "anew with `overwrite` (--overwrite)."
            ) from error
        if settings.get("format") != FORMAT:
            raise FeatureStoreError(
                f"{self._settings_file} must be of format {FORMAT}. Received: {settings.get('format')!r}. Continue "
                "with the version of elmo-keras-bridge that made it, or begin anew with `overwrite` (--overwrite)."
            )
        return settings


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The arrays of a segment, whose damage is an error of ours."""
    try:
        # Opened here: NumPy leaves a file open that it finds damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, KeyError, EOFError, RuntimeError) as error:
        raise FeatureStoreError(
            f"A segment must be whole. Received: {path}: {error}. Delete that file and run the same command with "
            "`resume` (--resume): it alone is computed again."
        ) from error


def _texts(arrays: Any) -> list[str]:
    blob, ends = arrays["texts"].tobytes(), np.cumsum(arrays["text_lengths"]).tolist()
    return [blob[begin:end].decode() for begin, end in zip([0, *ends], ends, strict=False)]
