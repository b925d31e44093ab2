"""Threads against cores, and GPU memory that two frameworks share."""

import os
from pathlib import Path

import pytest

from bridge.doctor.gpus import check_gpus, memory_grows
from bridge.doctor.threads import check_tensorflow_threads, check_torch_threads, usable_cores


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, 16),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 16),
        ({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n"}, 2),
        # A container sees the host's path, and its own group at the mount.
        ({"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 16),
    ],
)
def test_usable_cores(tmp_path: Path, files: dict[str, str], wanted: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == wanted


@pytest.mark.parametrize(
    ("torch_threads", "tensorflow_threads", "cores", "statuses"),
    [
        (16, 0, 16, ["ok", "ok"]),
        (8, 0, 16, ["ok", "ok"]),
        (16, 0, 2, ["note", "note"]),
        (2, 2, 2, ["ok", "ok"]),
        (1, 0, 16, ["note", "ok"]),
    ],
)
def test_absurd_numbers_of_threads(
    torch_threads: int, tensorflow_threads: int, cores: int, statuses: list[str]
) -> None:
    findings = [
        *check_torch_threads(torch_threads, cores),
        *check_tensorflow_threads(tensorflow_threads, cores),
    ]
    assert [finding.status for finding in findings] == statuses
    for finding in findings:
        if finding.status == "note":
            assert finding.command is not None
            assert finding.command.endswith(f"={cores}")


def test_a_variable_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    (finding,) = check_torch_threads(16, 16)
    assert (finding.status, finding.command) == ("note", "export OMP_NUM_THREADS=16")
    monkeypatch.setenv("OMP_NUM_THREADS", "16,1")  # nested
    assert [finding.status for finding in check_torch_threads(16, 16)] == ["ok"]


def test_gpus() -> None:
    assert [finding.found for finding in check_gpus([], [], False)] == ["None; everything runs on the processor."]
    assert [finding.status for finding in check_gpus(["A"], [], False)] == ["ok"]
    assert [finding.status for finding in check_gpus([], ["GPU:0"], False)] == ["ok", "note"]
    seen, memory = check_gpus(["A"], ["GPU:0"], False)
    assert seen.found == "PyTorch sees A; TensorFlow sees GPU:0."
    assert (memory.status, memory.command) == ("note", "export TF_FORCE_GPU_ALLOW_GROWTH=true")
    assert [finding.status for finding in check_gpus(["A"], ["GPU:0"], True)] == ["ok"]


def test_memory_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not memory_grows()
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "True")
    assert memory_grows()
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    assert not memory_grows()
