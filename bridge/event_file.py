"""Numbers for TensorBoard, written without TensorBoard and without TensorFlow: `EventFile`."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

import numpy as np


class EventFile:
    """An event file of TensorBoard: scalars, none of which waits in memory.

    A TFRecord file of `tensorflow.Event` messages. Of both formats this is the small part that scalars need, so that
    a training without TensorFlow has TensorBoard at no cost.

    Args:
        folder: where to write; made if it is not there.

    Example:
        >>> events = EventFile(Path("run/tensorboard/train"))
        >>> events.write("loss", 0.5, step=1)
        >>> events.close()

    Reference:
        TensorFlow's `event.proto`, `summary.proto` and `record_writer.h`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "ab")  # noqa: SIM115 - closed by `close`
        self._write_event(_bytes(3, b"brain.Event:2"))

    def write(self, tag: str, value: float, step: int) -> None:
        """Writes one point of the curve `tag`; a number beyond float32 as infinity, which TensorBoard can show."""
        # TensorProto: dtype float, a shape without dimensions, the value.
        tensor = _integer(1, 1) + _bytes(2, b"") + _bytes(5, _float32(value))
        # SummaryMetadata: drawn by the plugin for curves; DATA_CLASS_SCALAR.
        metadata = _bytes(1, _bytes(1, b"scalars")) + _integer(4, 1)
        point = _bytes(1, tag.encode()) + _bytes(8, tensor) + _bytes(9, metadata)
        self._write_event(_integer(2, step) + _bytes(5, _bytes(1, point)))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write_event(self, fields: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _float32(value: float) -> bytes:
    with np.errstate(over="ignore"):  # struct would raise
        return np.asarray(value, dtype="<f4").tobytes()


def _varint(number: int) -> bytes:
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _table() -> list[int]:
    table = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)  # Castagnoli's polynomial
        table.append(entry)
    return table


_TABLE = _table()


def _checksum(content: bytes) -> bytes:
    """CRC-32C, masked as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
