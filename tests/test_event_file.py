"""`EventFile`, read back with TensorFlow's own reader and messages."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from bridge.event_file import EventFile
from bridge.layers.callbacks import write_scalar


def events(folder: Path) -> list[event_pb2.Event]:
    (file,) = folder.glob("events.out.tfevents.*")
    return [event_pb2.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(file))]


def test_tensorflow_reads_what_is_written(tmp_path: Path) -> None:
    points = [("loss", 0.25, 0), ("größe/a b", -1e30, 127), ("x" * 300, 3.0, 128), ("loss", float("nan"), 2**40)]
    began = time.time()
    file = EventFile(tmp_path / "new" / "folder")
    for tag, value, step in points:
        file.write(tag, value, step)
        assert len(events(tmp_path / "new" / "folder")) == 2 + points.index((tag, value, step))  # at once
    file.close()
    first, *others = events(tmp_path / "new" / "folder")
    assert first.file_version == "brain.Event:2"
    for event, (tag, value, step) in zip(others, points, strict=True):
        assert event.step == step
        assert began - 1 <= event.wall_time <= time.time()
        (summary,) = event.summary.value
        assert summary.tag == tag
        assert (summary.metadata.plugin_data.plugin_name, summary.metadata.data_class) == ("scalars", 1)
        number = tf.make_ndarray(summary.tensor)
        assert (number.dtype, number.shape) == (np.float32, ())
        np.testing.assert_array_equal(number, np.float32(value))


def test_numbers_beyond_float32_are_infinite(tmp_path: Path) -> None:
    """And no error: a perplexity may be as large."""
    values = [1e39, -1e39, float("inf"), 3.4e38]
    file = EventFile(tmp_path)
    for value in values:
        file.write("perplexity", value, 1)
    file.close()
    written = [float(tf.make_ndarray(event.summary.value[0].tensor)) for event in events(tmp_path)[1:]]
    assert written == [np.inf, -np.inf, np.inf, pytest.approx(3.4e38)]


def test_it_is_what_tensorflow_writes(tmp_path: Path) -> None:
    writer = tf.summary.create_file_writer(str(tmp_path / "theirs"))
    with writer.as_default():
        write_scalar("loss", 0.5, 7)
    writer.close()
    ours = EventFile(tmp_path / "ours")
    ours.write("loss", 0.5, 7)
    ours.close()
    theirs, mine = events(tmp_path / "theirs")[-1], events(tmp_path / "ours")[-1]
    assert mine.step == theirs.step
    assert tf.make_ndarray(mine.summary.value[0].tensor) == tf.make_ndarray(theirs.summary.value[0].tensor)
    assert mine.summary.value[0].metadata == theirs.summary.value[0].metadata


def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    """The checksums are there to be wrong."""
    file = EventFile(tmp_path)
    file.write("loss", 0.5, 7)
    file.close()
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    content[12 + length + 4 + 12 + 20] ^= 1  # in the second event
    path.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        events(tmp_path)
