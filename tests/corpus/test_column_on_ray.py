"""`embed_column` on the batches of Ray Data, in whatever form they come."""

import subprocess
import sys

import pytest

from bridge import ElmoConfig

SCRIPT = """
import sys
from functools import partial

import numpy as np
import ray

from bridge import ElmoConfig, ElmoEncoder, embed_column

config = ElmoConfig(*sys.argv[1:])
sentences = [" ".join(f"w{(number * 7 + place) % 11}" for place in range(number % 9)) for number in range(60)]


def with_column(batch, format):
    features = embed_column(batch["sentence"], config, layers="top")
    if format == "pyarrow":
        return batch.append_column("elmo", features)
    return batch.assign(elmo=features) if format == "pandas" else {**batch, "elmo": features}


def main():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    wanted = dict(zip(sentences, ElmoEncoder(config).embed([text.split() for text in sentences], "top")))
    for format in ("pyarrow", "pandas", "numpy"):
        dataset = ray.data.from_items([{"sentence": text} for text in sentences], override_num_blocks=3)
        dataset = dataset.map_batches(partial(with_column, format=format), batch_format=format, batch_size=7)
        rows = dataset.take_all()
        assert sorted(row["sentence"] for row in rows) == sorted(sentences)
        for row in rows:
            right = wanted[row["sentence"]]
            found = np.asarray(row["elmo"], dtype=np.float32).reshape(right.shape)
            np.testing.assert_allclose(found, right, rtol=0, atol=1e-5)
    print("as wanted")


if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_every_form_of_batch(small: ElmoConfig) -> None:
    command = [sys.executable, "-c", SCRIPT, small.options_file, small.weight_file]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "as wanted" in run.stdout
