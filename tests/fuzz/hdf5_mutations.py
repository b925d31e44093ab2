"""Mutations of the objects in an HDF5 file, through the library itself: sound files with other contents."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5p, h5z

SPECIAL = [np.nan, np.inf, -np.inf, 1e30, -1e38, 65504.0, 0.0, 1e-40]
DTYPES: list[Any] = ["f2", "f4", "f8", ">f4", ">f8", "i4", "u1", "i8", "?", "c8", "S5", "V7", np.longdouble]
LIBVERS = [None, "earliest", "v108", "v110", "latest"]


def mutated_hdf5(rng: random.Random, path: Path) -> str:
    """One or several mutations of a file's objects in place; returns what was done."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        with h5py.File(path, "a", libver=rng.choice(LIBVERS)) as file:
            names: list[str] = []
            file.visit(names.append)
            if not names:
                break
            name, mutation = rng.choice(names), rng.choice(MUTATIONS)
            try:
                mutation(rng, file, name)
            except Exception as error:  # this object can't be changed like that
                done.append(f"no {mutation.__name__.strip('_')} of {name!r:.60} ({error!r:.60})")
            else:
                done.append(f"{mutation.__name__.strip('_')} of {name!r:.60}")
    return " and ".join(done)


def _values(file: h5py.File, name: str) -> np.ndarray:
    item = file[name]
    # What an earlier mutation made may be huge, or a virtual dataset of itself, of which HDF5 dies.
    is_readable = isinstance(item, h5py.Dataset) and not item.is_virtual and item.size and item.size < 100_000
    return item[()] if is_readable else np.zeros((2, 3), "f4")


def _replace(file: h5py.File, name: str, *args: Any, **kwargs: Any) -> None:
    del file[name]
    file.create_dataset(name, *args, **kwargs)


def _put_special_values(rng: random.Random, file: h5py.File, name: str) -> None:
    values = np.array(_values(file, name))
    flat = values.reshape(-1)
    for _ in range(rng.choice((1, 1, len(flat)))):
        flat[rng.randrange(len(flat))] = rng.choice(SPECIAL)
    _replace(file, name, data=values)


def _scale(rng: random.Random, file: h5py.File, name: str) -> None:
    _replace(file, name, data=_values(file, name) * rng.choice((0, -1, 2, 1e3, 1e6, 1e20)))


def _change_dtype(rng: random.Random, file: h5py.File, name: str) -> None:
    with np.errstate(all="ignore"):
        _replace(file, name, data=np.asarray(_values(file, name)).astype(rng.choice(DTYPES)))


def _change_shape(rng: random.Random, file: h5py.File, name: str) -> None:
    values = np.asarray(_values(file, name))
    _replace(
        file,
        name,
        data=rng.choice(
            (values.T, values[None], values[..., None], values[:0], values[1:], values.ravel(), values[-1])
        ),
    )


def _make_it_text(rng: random.Random, file: h5py.File, name: str) -> None:
    _replace(file, name, data=rng.choice(("text", ["a", "\u00e9" * 50], b"\xff\0", '{"a": "b"}', '["' * 30_000)))


def _make_it_empty(rng: random.Random, file: h5py.File, name: str) -> None:
    _replace(file, name, data=h5py.Empty("f4"))


def _make_it_compound(rng: random.Random, file: h5py.File, name: str) -> None:
    item = file[name]
    _replace(file, name, getattr(item, "shape", (2,)), np.dtype([("a", "f4"), ("b", "S3", (2,))]))


def _make_it_references(rng: random.Random, file: h5py.File, name: str) -> None:
    _replace(file, name, (3,), rng.choice((h5py.ref_dtype, h5py.regionref_dtype, h5py.vlen_dtype(np.float32))))


def _make_it_a_group(rng: random.Random, file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name + rng.choice(("", "/a/b")))


def _make_it_a_type(rng: random.Random, file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = np.dtype("f4")


def _delete(rng: random.Random, file: h5py.File, name: str) -> None:
    del file[name]


def _move(rng: random.Random, file: h5py.File, name: str) -> None:
    file.move(name, rng.choice((name + "x", name + "/x", "x/" + name, "0", "99", "-1", "\u0661", "a\\b")))


def _add(rng: random.Random, file: h5py.File, name: str) -> None:
    parent = name.rpartition("/")[0]
    file.create_dataset(f"{parent}/{rng.choice(('extra', '7', 'Cell9/LSTMCell/W_0', 'CNN_high_9/W_carry'))}", data=1.0)


def _link(rng: random.Random, file: h5py.File, name: str) -> None:
    target = rng.choice(("/", name, "/nowhere", "/" + rng.choice(list(file))))
    link = rng.choice(
        (h5py.SoftLink(target), h5py.ExternalLink("other.hdf5", target), h5py.ExternalLink("/dev/zero", "/"))
    )
    if rng.random() < 0.7:
        del file[name]
        file[name] = link
    else:  # a group that holds itself
        file[f"{name}_loop" if isinstance(file[name], h5py.Dataset) else f"{name}/loop"] = file["/"]


def _keep_data_elsewhere(rng: random.Random, file: h5py.File, name: str) -> None:
    shape = getattr(file[name], "shape", (2, 3))
    del file[name]
    if rng.random() < 0.5:
        file.create_dataset(name, shape, "f4", external=[(rng.choice(("/dev/zero", "raw.bin")), 0, h5py.h5f.UNLIMITED)])
    else:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource(rng.choice((".", "/dev/zero", "other.hdf5")), name, shape, "f4")
        file.create_virtual_dataset(name, layout)


def _claim_terabytes(rng: random.Random, file: h5py.File, name: str) -> None:
    shape = getattr(file[name], "shape", (2,)) or (2,)
    axis = rng.randrange(len(shape))
    huge = rng.choice((10**10, 2**40, 2**62 // max(1, int(np.prod(shape)) * 8)))
    shape = tuple(huge if number == axis else max(1, size) for number, size in enumerate(shape))
    chunks = rng.choice((None, tuple(min(size, 10) for size in shape), tuple(min(size, 1000) for size in shape)))
    filters = {"compression": "gzip"} if chunks and rng.random() < 0.5 else {}
    _replace(file, name, shape, "f4", chunks=chunks, maxshape=shape if chunks else None, **filters)


def _store_otherwise(rng: random.Random, file: h5py.File, name: str) -> None:
    """The same values, in chunks, packed, or with a filter that is not there."""
    values = np.asarray(_values(file, name))
    chunks = tuple(rng.randrange(1, max(1, size) + 1) for size in values.shape)
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk(chunks)
    kind = rng.randrange(4)
    if kind == 0:
        plist.set_filter(rng.choice((305, 32001, 32015)), h5z.FLAG_OPTIONAL)
    elif kind == 1:
        plist.set_scaleoffset(h5z.SO_FLOAT_DSCALE, rng.choice((0, 2)))
    elif kind == 2:
        plist.set_shuffle()
        plist.set_deflate(9)
        plist.set_fletcher32()
    del file[name]
    space = h5py.h5s.create_simple(values.shape)
    dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(values.dtype), space, plist)
    if rng.random() < 0.7:
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(values))


def _change_an_attribute(rng: random.Random, file: h5py.File, name: str) -> None:
    attributes = (file if rng.random() < 0.8 else file[name]).attrs
    key = rng.choice([*attributes, "elmo_bridge", "layout", "timesteps", "keys", "new"])
    if rng.random() < 0.3 and key in attributes:
        del attributes[key]
        return
    old = attributes.get(key, np.zeros(3, "i4"))
    values = [old[:-1] if np.ndim(old) else old, 0, -1.5, "text", np.bytes_(b"{}"), b"\xff" * 9, "a" * 60_000]
    values += [np.zeros((2, 2)), np.full(7, 2**31 - 1, "i4"), h5py.Empty("i4"), file.ref]
    attributes[key] = rng.choice(values)


MUTATIONS: list[Callable[[random.Random, h5py.File, str], None]] = [
    _put_special_values,
    _put_special_values,
    _scale,
    _change_dtype,
    _change_dtype,
    _change_shape,
    _make_it_text,
    _make_it_empty,
    _make_it_compound,
    _make_it_references,
    _make_it_a_group,
    _make_it_a_type,
    _delete,
    _move,
    _add,
    _link,
    _keep_data_elsewhere,
    _claim_terabytes,
    _store_otherwise,
    _change_an_attribute,
    _change_an_attribute,
]
