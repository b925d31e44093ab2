"""A process that writes feature files: `python writing.py PATH LAYOUT ENDING LIMIT...`.

For each LIMIT, the largest file that it may write, as on a full disk (0 is none), it writes 300 sentences. ENDING says
what it does then: `close`, `kill` itself, or `fork` a child that ends, and end itself without closing a second file.
"""

import os
import resource
import signal
import sys

import numpy as np
from features.samples import metadata_of

from bridge.features.parquet import ParquetWriter
from bridge.features.sentence_writer import SentenceWriter
from bridge.features.store import FeatureStore


def write(path: str, layout: str, ending: str, limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit or hard, hard))
    done = 0
    try:
        writer = create(path, layout)
        for number in range(300):
            writer.append(VALUES, f"sentence {number}")
            done += 1
        if ending == "kill":
            print("written", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if ending == "fork":
            child = os.fork()
            if not child:
                sys.exit(0)  # with everything that Python does when it ends
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            FORGOTTEN.append(create(f"{path}.forgotten", layout))
            FORGOTTEN[0].append(VALUES)
        writer.close()
    except OSError as error:
        print(type(error).__name__, error.errno, done, error)
        return
    print("complete")


def create(path: str, layout: str) -> SentenceWriter:
    if layout == "parquet":
        return ParquetWriter(path, METADATA)
    return FeatureStore.create(path, METADATA, layout=layout)  # type: ignore[arg-type]


METADATA = metadata_of(output_dim=32)
VALUES = np.random.default_rng(0).standard_normal((7, 3, 32)).astype(np.float32)
FORGOTTEN: list[SentenceWriter] = []

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, path, layout, ending, *limits = sys.argv
    for limit in limits:
        write(path, layout, ending, int(limit))
