"""Values that break programs, for every argument that takes text, ids, shapes or plain values."""

import array
import datetime
import decimal
from collections import OrderedDict, UserList, deque
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

TOKENS = [
    "", "a", "the", "cat", "<S>", "</S>", "<unk>", " ", "a b", "\0", "a\0b", "\ud800", "a\udfffb", "é", "e\u0301", "ﬁ",
    "\u202egnp", "\u200b", "\u2028", "\x85", "\ufeff", "\U0001f600", "中文", "a" * 48, "a" * 49, "é" * 24 + "x",
    "é" * 25, "x" * 10_000, "\U0001f469\u200d\U0001f469\u200d\U0001f467", "{}", "%s", "${HOME}", "nan", "-1", "a\tb",
    "a\nb", "a\r", "İ", "ß", "%2F", "/", ".",
]  # fmt: skip
tokens = st.sampled_from(TOKENS) | st.text(st.characters(), max_size=8)
sentences = st.lists(tokens, max_size=5)
batches = st.lists(sentences, max_size=4)

INTEGERS = [0, 1, -1, 2, 50, 127, 128, 255, 256, 257, 260, 261, 262, 2**15, 2**31 - 1, 2**31, 2**40, 2**63, 10**30]
integers = st.sampled_from(INTEGERS)
# Of timesteps and batches: some are in range, and for the others no machine has memory.
sizes = st.sampled_from([0, 1, 2, 3, 50, -1, 2**48, 2**63, 10**30])
flags = st.booleans()

# Made anew for every example, as some of them can be read once.
ODD_VALUES: list[Any] = [
    lambda: None, lambda: True, lambda: 0.5, lambda: 1.0, lambda: -0.0, lambda: float("nan"), lambda: float("inf"),
    lambda: 1e308, lambda: 1j, lambda: decimal.Decimal("1"), lambda: b"", lambda: b"the cat", lambda: b"\xff\xfe",
    lambda: bytearray(b"cat"), lambda: memoryview(b"cat"), lambda: memoryview(b"123456").cast("B", (2, 3)), object,
    lambda: object, lambda: len, lambda: Ellipsis, lambda: NotImplemented, lambda: {}, lambda: {"a": 1},
    lambda: OrderedDict(a=["b"]),
    lambda: {1: "a"}, set, lambda: {"a", "b"}, lambda: frozenset("ab"), lambda: (), lambda: ("a", "b"),
    lambda: range(3), lambda: iter([["a"]]), lambda: (token for token in ["a"]), lambda: map(str, [1]),
    lambda: deque(["a"]), lambda: UserList([["a"]]), lambda: array.array("i", [1, 2]), lambda: Path("a"),
    lambda: datetime.datetime(2020, 1, 1), lambda: slice(1), lambda: "", lambda: "the cat sat", lambda: "\ud800",
    lambda: np.str_("a"), lambda: np.bytes_(b"a"), lambda: np.int8(3), lambda: np.uint64(2**63), lambda: np.float32(1),
    lambda: np.bool_(True), lambda: np.datetime64("2020"), lambda: np.void(b"a"), lambda: np.array(5),
    lambda: np.array("a"), lambda: np.array([], dtype=object), lambda: np.array([None, "a"], dtype=object),
    lambda: np.array([["a"], ["b", "c"]], dtype=object), lambda: np.ma.masked_array([1, 2], [False, True]),
    lambda: np.zeros(2, dtype=[("a", "i4"), ("b", "U3")]), lambda: np.array(["a", "b"], dtype="T"),
    lambda: pd.Series(["a b", None]), lambda: pd.Series([["a"], ["b", "c"]]), lambda: pd.Series([1, 2], index=[7, 7]),
    lambda: pd.Series(["a", "b"], dtype="category"), lambda: pd.Series(["a", pd.NA], dtype="string"), lambda: pd.NA,
    lambda: pd.NaT, lambda: pd.DataFrame({"a": ["b"]}), lambda: pd.Index(["a"]), lambda: pd.Series([], dtype=object),
]  # fmt: skip
odd_values = st.sampled_from(ODD_VALUES).map(lambda make: make())
scalars = odd_values | integers | tokens
limits = odd_values | sizes | sizes
nested_lists = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=8)

DTYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "complex64", ">i4", "O", "U5", "S5",
]  # fmt: skip
SIZES = [0, 1, 2, 3, 50]


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[str] = DTYPES, ranks: tuple[int, int] = (0, 5)) -> np.ndarray:
    """NumPy arrays of any dtype and rank, small, with the ids that programs trip over."""
    shape = tuple(draw(st.lists(st.sampled_from(SIZES), min_size=ranks[0], max_size=ranks[1])))
    while np.prod(shape) > 20_000:
        shape = (1, *shape[1:]) if shape[0] != 1 else (shape[0], *(min(size, 3) for size in shape[1:]))
    dtype, rng = draw(st.sampled_from(dtypes)), np.random.default_rng(draw(st.integers(0, 9)))
    if dtype in ("O", "U5", "S5"):
        values = rng.choice(np.array(["", "a", "cat", "é"], dtype=object), shape)
        return np.char.encode(values.astype("U5"), "utf-8") if dtype == "S5" else np.asarray(values, dtype=dtype)
    values = rng.integers(*draw(st.sampled_from([(0, 2), (0, 262), (-1, 300), (259, 262)])), shape)
    with np.errstate(all="ignore"):
        result = np.asarray(values).astype(dtype)
    if result.dtype.kind == "f" and result.size and draw(flags):
        result.reshape(-1)[0] = draw(st.sampled_from([np.nan, np.inf, 0.5]))
    order = draw(st.sampled_from(["C", "F", "reversed"]))
    return (
        result[::-1] if order == "reversed" and result.ndim else np.asarray(result, order="F" if order == "F" else "C")
    )


@st.composite
def character_ids(draw: st.DrawFn) -> np.ndarray:
    """Character ids of sentences as they should be, and often with one thing wrong."""
    from bridge.text.characters import batch_to_ids

    ids = batch_to_ids(draw(batches))
    ids = ids.astype(draw(st.sampled_from(["int32", "int64", "int16", "uint16", "uint64", ">i4"])))
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        if ids.size:
            place = tuple(draw(st.integers(0, size - 1)) for size in ids.shape)
            ids[place] = draw(st.sampled_from([0, 1, 261, 262, 300]))
    return ids


anything = nested_lists | arrays() | batches | character_ids()
