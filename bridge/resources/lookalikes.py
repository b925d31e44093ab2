"""What people have in place of `weights.hdf5` or `options.json`, by how it begins: `lookalike`."""

from __future__ import annotations

import re
from pathlib import Path

from bridge.untrusted_hdf5 import MAGIC

JSON = "JSON. Are `options_file` and `weight_file` swapped?"
UNKNOWN = "neither JSON nor HDF5, or damaged. Download it again, and give its SHA-256."
PUBLISHED = "Give the published file."
# PyTorch's own number, pickled: how files of before version 1.6 begin.
LEGACY_PYTORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

BEGINNINGS = {
    b"{": JSON,
    b"[": JSON,
    b"<": "an HTML or XML page, such as a server's error page. Download the file again.",
    b"version https://git-lfs": "a Git LFS pointer. Run `git lfs pull`.",
    b"PK\x03\x04": f"a ZIP archive or a PyTorch checkpoint. {PUBLISHED} A file inside an archive is named as "
    "`archive.zip!weights.hdf5`.",
    b"PK\x05\x06": "an empty ZIP archive. Download it again.",
    b"\x1f\x8b": "gzip-compressed. Unpack it first; a file inside a tar.gz is named as `archive.tar.gz!weights.hdf5`.",
    b"BZh": "bzip2-compressed. Unpack it first.",
    b"\xfd7zXZ\x00": "xz-compressed. Unpack it first.",
    b"\x28\xb5\x2f\xfd": "Zstandard-compressed. Unpack it first.",
    b"\x93NUMPY": f"a NumPy array. {PUBLISHED}",
    b"PAR1": f"a Parquet file. {PUBLISHED}",
    MAGIC: "a damaged or truncated HDF5 file. Download it again.",
    b"": UNKNOWN,
}
TENSORFLOW = (
    "part of a TensorFlow checkpoint or SavedModel. Give the `weights.hdf5` of the same model: AllenNLP reads no other "
    "format, and bilm-tf's `dump_weights` writes it from a checkpoint."
)
# Files of TensorFlow have no beginning of their own: their names do.
TENSORFLOW_NAME = re.compile(r"\.(index|meta|pb|ckpt|data-\d{5}-of-\d{5})$|^(checkpoint|saved_model\.pb)$")
TABLE_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def lookalike(path: Path) -> str:
    """What a file that can't be read as HDF5 seems to be, and what to do about it.

    Raises:
        OSError: it can't be read at all.
    """
    with open(path, "rb") as file:
        head = file.read(1024)
        file.seek(-min(len(TABLE_END), file.seek(0, 2)), 2)
        end = file.read()
    is_zip, is_pickle = head.startswith(b"PK\x03\x04"), bool(re.match(rb"\x80[\x02-\x05]", head))
    kinds = {
        "an empty file. Download it again.": not head,
        f"a PyTorch checkpoint, which is never unpickled. {PUBLISHED}": (is_zip and b"/data.pkl" in head)
        or (is_pickle and LEGACY_PYTORCH in head),
        f"a NumPy archive (.npz). {PUBLISHED}": is_zip and b".npy" in head[:256],
        "a tar archive. A file inside it is named as `archive.tar!weights.hdf5`.": head[257:262] == b"ustar",
        f"a Python pickle, which is never loaded: it could run anything. {PUBLISHED}": is_pickle,
        TENSORFLOW: end == TABLE_END or (TENSORFLOW_NAME.search(path.name) and not head.startswith(MAGIC)),
    }
    begins = (text for magic, text in BEGINNINGS.items() if head.lstrip().startswith(magic))
    return next((text for text, holds in kinds.items() if holds), None) or next(begins)
