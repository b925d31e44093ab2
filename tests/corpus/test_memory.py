"""Memory does not grow with the corpus."""

import subprocess
import sys
from pathlib import Path

import pytest

from bridge import ElmoConfig

CHILD = """
import sys
from pathlib import Path
from bridge import ElmoConfig
from bridge.corpus.embed import embed_corpus
inputs, output, layout, options, weights = sys.argv[1:]
embed_corpus(inputs, output, ElmoConfig(options, weights), layout=layout)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]))
"""


def peak_kib(folder: Path, config: ElmoConfig, lines: int, layout: str) -> int:
    corpus, output = folder / "corpus.txt", folder / "out.hdf5"
    with open(corpus, "w") as file:
        # A vocabulary that both have: the cache of token vectors grows with it, to 64 MiB.
        file.writelines(f"short line {number % 5_000} .\n" for number in range(lines))
    command = [sys.executable, "-c", CHILD, corpus, output, layout, config.options_file, config.weight_file]
    run = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, timeout=280)
    output.unlink()
    return int(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["elmo", "packed"])
def test_ten_times_the_lines_take_no_more_memory(small: ElmoConfig, tmp_path: Path, layout: str) -> None:
    few, many = (peak_kib(tmp_path, small, lines, layout) for lines in (10_000, 100_000))
    assert many < 1.05 * few, (few, many)
