"""A corpus embedded on Ray is what a local encoder makes of it, whatever happens to the workers. All clusters are real.

Ray is started by programs in processes of their own, which end it, too.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from corpus.ray_helpers import LINES, check_whole, parts, workers
from models import options_dict, random_model

import bridge
from bridge.corpus.ray_runner import embed_corpus_on_ray
from bridge.errors import InputTypeError, InputValueError, MissingDependencyError, OutputError, ResourceNotFoundError
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions

ROOT = Path(bridge.__file__).parents[1]
PRELUDE = """
import atexit, json, os, signal, sys, threading, time
from pathlib import Path
from corpus.ray_helpers import *
from bridge import ElmoConfig
from bridge.corpus import ray_pool
from bridge.corpus.ray_runner import embed_corpus_on_ray
from rich.console import Console

results = open("results.txt", "w")
atexit.register(results.close)
def tell(*values):  # not to stdout, where Ray tells of dead workers
    print(*values, file=results)
use_small_windows()
config = ElmoConfig("model/options.json", "model/weights.hdf5")
shown = open("console.txt", "w")
atexit.register(shown.close)
console = Console(file=shown, width=1000)
def embed(inputs="corpus.txt", output="out", config=config, console=console, **arguments):
    return embed_corpus_on_ray(inputs, output, config, console=console, **arguments)
"""
START = """
import ray
from ray.cluster_utils import Cluster
def start(*cpus):
    "A cluster of machines with so many cores."
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    return cluster, [cluster.add_node(num_cpus=number) for number in cpus[1:]]
"""

Run = Callable[[str], list[str]]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a program in `tmp_path`, where there is a model and a text."""
    random_model(tmp_path / "model")
    (tmp_path / "corpus.txt").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    ray_folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # its sockets' names must be short
    environment = dict(os.environ, RAY_TMPDIR=ray_folder, PYTHONUNBUFFERED="1")
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    processes = []

    def start(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + program],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()  # Ray's processes end with it
        process.communicate()
    shutil.rmtree(ray_folder, ignore_errors=True)


@pytest.fixture
def run(tmp_path: Path, started: Callable[[str], subprocess.Popen[str]]) -> Callable[[str], list[str]]:
    """Runs a program; returns the lines that it told."""

    def run(program: str) -> list[str]:
        process = started(program)
        out, err = process.communicate(timeout=250)
        assert process.returncode == 0, err
        assert err == ""
        assert out == "" or "(raylet)" in out.splitlines()[0]
        return (tmp_path / "results.txt").read_text().splitlines()

    return run


def config_of(tmp_path: Path) -> ElmoConfig:
    return ElmoConfig(str(tmp_path / "model" / "options.json"), str(tmp_path / "model" / "weights.hdf5"))


@pytest.mark.slow
def test_the_vectors_are_a_local_encoders(tmp_path: Path, run: Run) -> None:
    told = run(
        """
report = embed(num_actors=1)
tell(report.metadata.to_json())
tell(report.embedded_sentences, report.embedded_tokens, report.resumed_sentences, report.cache_hit_rate > 0.9)
import ray
assert not ray.is_initialized()
"""
    )
    metadata = json.loads(told[0])
    tokens = [line.split() for line in LINES]
    names = ("sentences", "tokens", "empty_sentences", "long_tokens", "skipped_lines")
    assert [metadata[name] for name in names] == [400, sum(map(len, tokens)), tokens.count([]), 1, 0]
    assert told[1] == f"400 {sum(map(len, tokens))} 0 True"
    check_whole(tmp_path / "out", config_of(tmp_path))
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["metadata"] == metadata
    assert manifest["parts"] == len(parts(tmp_path / "out")) > 20
    assert (tmp_path / "console.txt").read_text() == ""  # nothing went wrong


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"state": "carry"}, InputValueError, r'`state` must be "zero" or "warm" on Ray.*Received: "carry".*--runner'),
        ({"state": "cold"}, InputValueError, '`state` must be "zero" or "warm". Received: \'cold\''),
        ({"layers": "some"}, InputValueError, "`layers` must be"),
        ({"dtype": "float64"}, InputValueError, "`dtype` must be"),
        ({"precision": "half"}, InputValueError, "`precision` must be"),
        ({"compression": "lzf"}, InputValueError, '`compression` must be "snappy" or'),
        ({"device": "tpu"}, InputValueError, '`device` must be "cpu" or "cuda" on Ray'),
        ({"num_actors": 0}, InputValueError, "`num_actors` must be at least 1"),
        ({"cpus_per_actor": 0.5}, InputTypeError, "`cpus_per_actor` must be an integer"),
        ({"batch_size": 0}, InputValueError, "`batch_size` must be at least 1"),
        ({"max_tokens": "many"}, InputTypeError, "`max_tokens` must be an integer"),
        ({"resume": 1}, InputTypeError, "`resume` must be True or False"),
        ({"inputs": "nothing.txt"}, ResourceNotFoundError, "nothing.txt"),
        ({"ray_address": "127.0.0.1:9"}, InputValueError, "`ray_address` must be .*Received: '127.0.0.1:9': .*refused"),
        ({"output": "no/folder"}, OutputError, "`output` must be in a folder that exists"),
        ({"output": "/etc"}, OutputError, "`output` must be a folder that such a run made, or not exist"),
        ({"output": "nowhere://bucket"}, InputValueError, "`output` must be a folder, or the URL of one"),
    ],
)
def test_errors_that_need_no_cluster(
    small: ElmoConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text("the cat\n")
    everything: dict[str, Any] = {"inputs": "corpus.txt", "output": "out", "config": small, **arguments}
    with pytest.raises(kind, match=message):
        embed_corpus_on_ray(**everything)
    assert os.listdir() == ["corpus.txt"]


@pytest.mark.parametrize("package", ["ray", "pyarrow"])
def test_a_missing_package_names_the_extra(
    small: ElmoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"'{package}' is needed here.*elmo-keras-bridge\[ray\]"):
        embed_corpus_on_ray(tmp_path / "corpus.txt", tmp_path / "out", small)


@pytest.mark.slow
def test_storage_rays_users_and_errors(tmp_path: Path, run: Run) -> None:
    """Ray that is connected already is used and left; what goes wrong is told in our words."""
    (tmp_path / "more").mkdir()
    for number in range(4):
        text = "".join(f"{line}\n" for line in LINES[100 * number : 100 * (number + 1)])
        (tmp_path / "more" / f"{number}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes((tmp_path / "corpus.txt").read_bytes() + b"\xff\n")
    options = ElmoOptions.model_validate(options_dict())
    weights = initial_weights(options, 0)
    weights["CNN_proj/W_proj"] *= 1e6
    write_checkpoint(tmp_path / "huge", options, weights)
    told = run(
        """
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
report = embed("more/*.txt", "file://" + os.path.abspath("stored"), layers="top", state="warm", compression="zstd")
tell(report.output)
for arguments in [
    {"inputs": "bad.txt", "output": "bad"},
    {"output": "huge16", "config": ElmoConfig("huge/options.json", "huge/weights.hdf5"), "dtype": "float16"},
    {"output": "taken"},
    {"output": "none", "ray_address": "auto"},
]:
    if arguments["output"] == "taken":
        os.makedirs("taken.partial/part-000000000000.parquet/folder")
    try:
        embed(**arguments)
    except Exception as error:
        tell(json.dumps([type(error).__name__, str(error)]))
    wait_until_all_have_ended()
assert ray.is_initialized()
"""
    )
    assert told[0] == f"file://{tmp_path}/stored"
    check_whole(tmp_path / "stored", config_of(tmp_path), layers="top", state="warm")
    assert {path.name for path in (tmp_path / "stored").iterdir()} - {
        path.name for path in parts(tmp_path / "stored")
    } == {"_manifest.json"}

    (bad, bad_text), (huge, huge_text), (taken, taken_text), (none, none_text) = map(json.loads, told[1:])
    assert bad == "InputValueError"
    assert bad_text.startswith("bad.txt, line 401: the file must be UTF-8. Received: the byte 0xff at position 0")
    assert len(parts(tmp_path / "bad.partial")) > 0  # to be resumed
    assert huge == "InputValueError"
    assert re.search(r"`features` must be finite. Received: .* which float16 does not have.*sentence \d+ ", huge_text)
    assert taken == "OutputError"
    assert re.search(r"`output` must be in storage that can be .* Received: .*taken.partial: .*--resume", taken_text)
    assert none == "InputValueError"
    assert none_text.startswith("`ray_address` must be left out where Ray is connected already. Received: 'auto'")


@pytest.mark.slow
def test_a_killed_worker_costs_its_window_and_a_lost_machine_its_worker(tmp_path: Path, run: Run) -> None:
    told = run(
        START
        + """
cluster, (other,) = start(1, 1)
done, real = [], ray_pool.RayPool._result
def result(self, answer):
    done.append(real(self, answer))
    return done[-1]
ray_pool.RayPool._result = result

def kill():
    pid = any_worker("embed")
    os.kill(pid, signal.SIGSTOP)  # in the midst of a window
    assert pid in workers("embed")
    survivor = any_worker(but=[pid])  # it may still be loading
    os.kill(survivor, signal.SIGSTOP)  # the other one's successor shall have something to do
    os.kill(pid, signal.SIGKILL)
    any_worker("embed", but=[pid, survivor])
    os.kill(survivor, signal.SIGCONT)
thread = when_parts_are("out.partial", 3, kill)
embed(ray_address=cluster.address)
thread.join()
windows = [answer for answer in done if isinstance(answer, ray_pool.Embedded)]
tell(len(windows) == len(parts("out")) > 20, len(done) - len(windows))

def lose():
    one = any_worker("embed")
    os.kill(one, signal.SIGSTOP)  # until the other machine's is at work, too
    any_worker("embed", but=[one])
    cluster.remove_node(other, allow_graceful=False)
    os.kill(one, signal.SIGCONT)
thread = when_parts_are("lost.partial", 3, lose)
embed(["corpus.txt"] * 5, "lost", ray_address=cluster.address)
thread.join()
cluster.shutdown()
"""
    )
    # No window but that one was computed twice; three workers were loaded.
    assert told == ["True 3"]
    check_whole(tmp_path / "out", config_of(tmp_path))
    check_whole(tmp_path / "lost", config_of(tmp_path), LINES * 5)
    shown = (tmp_path / "console.txt").read_text().splitlines()
    assert len(shown) == 2
    assert all(line.startswith("a worker died; another one takes over: ") for line in shown)


@pytest.mark.slow
def test_two_workers_hold_one_copy_of_the_weights(tmp_path: Path, run: Run) -> None:
    random_model(tmp_path / "large", dim=2048, projection_dim=256, n_layers=2, filters=((3, 1024),))
    told = run(
        """
import ray
from bridge.corpus.ray_pool import RayPool
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
real = RayPool.close
def close(self):
    tell(json.dumps([private_bytes(pid) for pid in workers()]))
    real(self)
RayPool.close = close
embed(num_actors=2, layers="top")
embed(output="large-out", config=ElmoConfig("large/options.json", "large/weights.hdf5"), num_actors=2, layers="top")
"""
    )
    small, large = map(json.loads, told)
    assert len(small) == len(large) == 2
    size = (tmp_path / "large" / "weights.hdf5").stat().st_size
    assert size > 85e6
    assert max(large) - min(small) < size / 2
    check_whole(tmp_path / "large-out", ElmoConfig(*map(str, sorted((tmp_path / "large").iterdir()))), layers="top")


@pytest.mark.slow
def test_what_kills_every_worker_ends_the_run(run: Run, tmp_path: Path) -> None:
    told = run(
        """
def kill_all():
    while True:
        os.kill(any_worker("embed"), signal.SIGKILL)
        time.sleep(0.1)
threading.Thread(target=kill_all, daemon=True).start()
try:
    embed(num_actors=1)
except Exception as error:
    tell(type(error).__name__, error)
import ray
assert not ray.is_initialized()
"""
    )
    text = "\n".join(told)
    assert text.startswith(
        "ProcessError A worker must live until it is done. Received: 4 deaths one after the other, in "
    )
    assert "sentences 0 to " in text
    assert text.endswith("run the same command with `resume` (--resume).")
    assert (tmp_path / "console.txt").read_text().count("a worker died") == 3


@pytest.mark.slow
def test_a_killed_run_is_resumed(tmp_path: Path, run: Run, started: Callable[[str], subprocess.Popen[str]]) -> None:
    process = started("embed()")
    while len(parts(tmp_path / "out.partial")) < 5:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    orphans = workers(of=process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in orphans):  # they may be writing
        time.sleep(0.01)
    before = parts(tmp_path / "out.partial")
    assert not (tmp_path / "out").exists()
    damaged, *kept = before
    damaged.write_bytes(damaged.read_bytes()[:-50])
    stamps = {path.name: path.stat().st_mtime_ns for path in kept}

    told = run(
        """
try:
    embed()
except ValueError as error:
    tell(error)
try:
    embed(resume=True, layers="top")
except ValueError as error:
    tell(error)
Path("other.txt").write_text(Path("corpus.txt").read_text().replace("w1", "w9"))
try:
    embed("other.txt", resume=True)
except ValueError as error:
    tell(error)
report = embed(resume=True)
tell(json.dumps({path.name: path.stat().st_mtime_ns for path in parts("out")}))
tell(report.resumed_sentences, report.embedded_sentences)
tell(embed(resume=True).metadata == report.metadata)
try:
    embed()
except ValueError as error:
    tell(error)
Path("more.txt").write_text("one two\\n")
tell(embed("more.txt", overwrite=True).metadata.sentences)
"""
    )
    exists, settings, text, now, counts, again, taken, new = told
    assert f"{len(before)} finished parts in {tmp_path}/out.partial. Continue with `resume`" in exists
    assert "`layers` was 'all' and is 'top'" in settings
    assert "is 'w9" in text
    assert "was 'w1" in text
    resumed, embedded = map(int, counts.split())
    assert resumed + embedded == 400
    assert resumed >= 1
    assert again == "True"
    assert "`output` must not exist" in taken
    assert new == "1"
    assert stamps.items() <= json.loads(now).items()
