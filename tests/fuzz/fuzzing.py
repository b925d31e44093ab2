"""The harness of all fuzzing: one table a room, one way to run it, to limit it and to repeat it.

A room's table says of every public function what it is called with, and what holds of its result. Only documented
errors may leave. Everything is drawn from one seed, so that runs on every machine are alike. Another seed finds other
things:

    FUZZ_SEED=123 python -m pytest tests/fuzz                        # the quick part, from seed 123
    FUZZ_SEED=random FUZZ_FACTOR=10 python -m pytest -m slow tests/fuzz      # ten times the slow part, from a new seed
    FUZZ_SEED=123 FUZZ_MUTANT=packed:45 python -m pytest -m slow tests/fuzz/test_mutants.py    # that mutant alone

A failure ends with the command that repeats it. Beside it, hypothesis prints the smallest example that it found, and
a decorator for it.
"""

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from bridge.errors import BridgeError

_GIVEN = os.environ.get("FUZZ_SEED", "0")
SEED = random.SystemRandom().randrange(2**32) if _GIVEN == "random" else int(_GIVEN)
FACTOR = float(os.environ.get("FUZZ_FACTOR", "1"))
# Of computing, for one example: machines may do other things meanwhile.
SECONDS = 20
# How many times the examples of the quick part the slow part has.
SLOW = 6


class Entry(NamedTuple):
    """A public function in the table of its room.

    Attributes:
        name: of the function and of what is varied.
        arguments: draws what it is called with.
        call: calls it.
        check: looks at what came out, given the arguments, too; raises where that is not what was promised.
        documented: the errors that may leave.
        examples: of the quick part.
    """

    name: str
    arguments: st.SearchStrategy[dict[str, Any]]
    call: Callable[..., Any]
    check: Callable[..., None]
    documented: tuple[type[BaseException], ...] = (BridgeError,)
    examples: int = 15


def parametrized(table: list[Entry]) -> Any:
    """Makes one test of a room's table."""
    return pytest.mark.parametrize("entry", table, ids=[entry.name for entry in table])


def fuzz(entry: Entry, factor: float = 1) -> Counter[str]:
    """Calls an entry with many examples; returns how many were accepted and refused."""
    counts: Counter[str] = Counter()

    @seed(SEED)
    @settings(
        max_examples=max(1, int(entry.examples * factor * FACTOR)),
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(entry.arguments)
    def one_example(arguments: dict[str, Any]) -> None:
        with limited():
            try:
                result = entry.call(**arguments)
            except entry.documented:
                counts["refused"] += 1
                return
            entry.check(result, **arguments)
            counts["accepted"] += 1

    try:
        one_example()
    except BaseException as error:
        error.add_note(f"To repeat it: FUZZ_SEED={SEED} FUZZ_FACTOR={FACTOR:g} python -m pytest {_test()}")
        raise
    return counts


def _test() -> str:
    current = os.environ.get("PYTEST_CURRENT_TEST", "tests/fuzz").split(" (")[0]
    return f"-m 'slow or not slow' '{current}'"


@contextlib.contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Ends what computes for too long. Not by SIGALRM, which is pytest-timeout's."""

    def end(*_: object) -> None:
        raise TimeoutError(f"one example computed for {seconds} s")

    previous = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
