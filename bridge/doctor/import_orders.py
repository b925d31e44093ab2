"""Import orders, each really tried in a fresh process: two frameworks in one process can kill it."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Sequence

from bridge.doctor.findings import Finding, note, ok
from bridge.doctor.processes import in_fresh_process

# `import bridge` imports neither framework, so that two orders show what six do.
USUAL_ORDERS = (("bridge", "torch", "tensorflow"), ("tensorflow", "torch", "bridge"))
EVERY_ORDER = tuple(itertools.permutations(("bridge", "torch", "tensorflow")))
# What a plain PyTorch optimizer and `torch.compile` do after TensorFlow, and the bridge never does.
TRITON_ORDER = ("tensorflow", "triton")
TIMEOUT = 300


def check_order(order: Sequence[str]) -> Iterator[Finding | str]:
    """Imports the modules in this order and computes with those of them that can: run it in a fresh process."""
    modules = {}
    for name in order:
        yield f"import {name}"
        modules[name] = importlib.import_module(name)
    if "tensorflow" in modules:
        yield "a first TensorFlow operation"
        modules["tensorflow"].constant([1.0, 2.0]) + 1.0
    if "bridge" in modules:
        yield "a first encoder call"
        modules["bridge"].ElmoEncoder("demo").embed([["a", "first", "call"]])
    yield ok("import order", f"{', '.join(order)}: works.")


def try_order(order: Sequence[str], timeout: float = TIMEOUT) -> list[Finding]:
    """What `check_order` finds in a fresh process; a death there names the order."""
    return in_fresh_process(f"import order {', '.join(order)}", check_order, list(order), timeout=timeout)


def try_triton(timeout: float = TIMEOUT) -> list[Finding]:
    """Whether triton can be imported after TensorFlow. The bridge does not; the user's own PyTorch code may."""
    if all(finding.status == "ok" for finding in try_order(TRITON_ORDER, timeout)):
        return [ok("import order", "tensorflow, triton: works.")]
    return [
        note(
            "import order",
            "Importing triton after TensorFlow kills the process. The bridge never does that; a PyTorch optimizer or "
            "torch.compile of yours would.",
            "Write `import triton` before `import tensorflow` in programs that have those.",
        )
    ]
