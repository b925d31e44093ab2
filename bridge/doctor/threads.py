"""How many threads PyTorch and TensorFlow use, against the cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from bridge.doctor.findings import Finding, note, ok

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: its affinity, cut by the quota of its control group (a container's `--cpus`).

    Args:
        root: where `proc` and `sys` are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(root: Path) -> float | None:
    """Cores that the control group grants; None if it sets no limit."""
    for folder in _groups(root):
        try:
            limit, period = (folder / "cpu.max").read_text().split()  # version 2
        except (OSError, ValueError):
            try:
                limit = (folder / "cpu.cfs_quota_us").read_text().strip()  # version 1
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            except OSError:
                continue
        if limit.isdigit() and period.isdigit() and int(period):  # not "max" or -1
            return int(limit) / int(period)
    return None


def _groups(root: Path) -> Iterator[Path]:
    """Folders that may say the quota: the process's own group first, then the container's."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield mount / path.lstrip("/")
        elif "cpu" in controllers.split(","):
            yield mount / controllers / path.lstrip("/")
    yield mount
    yield mount / "cpu"


def check_torch_threads(threads: int, cores: int) -> Iterator[Finding]:
    """Says when there are many more, or many fewer, threads than cores.

    Args:
        threads: those of one PyTorch operation.
        cores: that this process may use.
    """
    variables = {name: os.environ[name] for name in THREAD_VARIABLES if os.environ.get(name)}
    described = ", ".join(f"{name}={value}" for name, value in variables.items()) or "OMP_NUM_THREADS is not set"
    found = f"PyTorch uses {threads} threads on {cores} usable cores ({described})"
    command = f"export OMP_NUM_THREADS={cores}"
    if any(not value.split(",")[0].strip().isdigit() for value in variables.values()):
        yield note("threads", f"{found}: that is no number.", "Set it to the number of cores.", command)
    elif threads > cores:
        yield note("threads", f"{found}: they stand in each other's way.", "Use as many as there are cores.", command)
    elif threads * 4 <= cores:
        yield note("threads", f"{found}: most cores are idle.", "Use more.", command)
    else:
        yield ok("threads", f"{found}.")


def check_tensorflow_threads(threads: int, cores: int) -> Iterator[Finding]:
    """Says when there are many more threads than cores.

    Args:
        threads: those of one TensorFlow operation; 0 is as many as the machine has.
        cores: that this process may use.
    """
    threads = threads or os.cpu_count() or 1
    found = f"TensorFlow uses {threads} threads on {cores} usable cores"
    if threads > 2 * cores:
        yield note(
            "threads",
            f"{found}: they stand in each other's way.",
            f"Call `tf.config.threading.set_intra_op_parallelism_threads({cores})` first, or",
            f"export TF_NUM_INTRAOP_THREADS={cores}",
        )
    else:
        yield ok("threads", f"{found}.")
