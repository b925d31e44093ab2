"""`SideBySide` runs two functions to their end or stops both, and leaves PyTorch's settings alone."""

import gc
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from bridge.encoder.side_by_side import SideBySide

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def pool_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("elmo")}


def test_both_run_on_half_of_the_threads(threads: int) -> None:
    seen: dict[str, tuple[int, bool, bool]] = {}

    def work(name: str, stop: threading.Event) -> None:
        seen[name] = torch.get_num_threads(), stop.is_set(), torch.is_grad_enabled()

    run = SideBySide(CPU)
    for _ in range(2):
        with torch.no_grad():
            run(lambda stop: work("first", stop), lambda stop: work("second", stop))
        half = max(1, threads // 2)
        assert seen == {"first": (half, False, False), "second": (half, False, False)}
        assert torch.get_num_threads() == threads
        assert threads_of_a_new_thread() == threads
        seen.clear()


def test_they_follow_the_callers_number_of_threads(two_threads: None) -> None:
    run = SideBySide(CPU)
    seen: list[int] = []

    def look(stop: threading.Event) -> None:
        seen.append(torch.get_num_threads())

    for threads, half in [(4, 2), (2, 1), (6, 3), (1, 1), (4, 2)]:
        torch.set_num_threads(threads)
        seen.clear()
        run(look, look)
        assert seen == [half, half]
        assert torch.get_num_threads() == threads_of_a_new_thread() == threads


def test_they_run_at_the_same_time(two_threads: None) -> None:
    meeting = threading.Barrier(2, timeout=10)

    def meet(stop: threading.Event) -> None:
        meeting.wait()

    SideBySide(CPU)(meet, meet)


def test_grad_mode_of_the_caller_stays(threads: int) -> None:
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            SideBySide(CPU)(do_nothing, do_nothing)
            assert torch.is_grad_enabled() == enabled


class Failure(Exception):
    pass


def fail(stop: threading.Event) -> None:
    raise Failure


def do_nothing(stop: threading.Event) -> None:
    pass


@pytest.mark.parametrize("failing", ["first", "second"])
def test_a_failure_arrives_and_stops_the_other(two_threads: None, failing: str) -> None:
    stopped = threading.Event()

    def go_on(stop: threading.Event) -> None:
        if stop.wait(20):
            stopped.set()

    run = SideBySide(CPU)
    start = time.monotonic()
    with pytest.raises(Failure):
        run(*((fail, go_on) if failing == "first" else (go_on, fail)))
    assert stopped.is_set()
    assert time.monotonic() - start < 10
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2
    # The next call is a new one.
    seen: list[bool] = []
    run(lambda stop: seen.append(stop.is_set()), lambda stop: seen.append(stop.is_set()))
    assert seen == [False, False]


def test_nothing_runs_any_more_when_a_failure_arrives(two_threads: None) -> None:
    ended = threading.Event()

    def end_slowly(stop: threading.Event) -> None:
        stop.wait(20)
        time.sleep(0.2)
        ended.set()

    for arguments in [(end_slowly, fail), (fail, end_slowly)]:
        ended.clear()
        with pytest.raises(Failure):
            SideBySide(CPU)(*arguments)
        assert ended.is_set()


def test_a_failure_with_one_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number in range(2):
            works = [fail, do_nothing] if number else [do_nothing, fail]
            with pytest.raises(Failure):
                SideBySide(CPU)(*works)
    finally:
        torch.set_num_threads(before)


def test_its_threads_end_with_it(two_threads: None) -> None:
    gc.collect()
    before = pool_threads()
    run = SideBySide(CPU)
    run(do_nothing, do_nothing)
    run(do_nothing, do_nothing)
    started = pool_threads() - before
    assert len(started) == 2
    del run
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def test_callers_in_several_threads_do_not_wait_for_ever(two_threads: None) -> None:
    run = SideBySide(CPU)
    results: list[int] = []

    def call(number: int) -> None:
        for _ in range(20):
            mine: list[threading.Event] = []
            run(mine.append, mine.append)
            assert len(mine) == 2
            assert mine[0] is mine[1]
            results.append(number)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert sorted(results) == sorted(list(range(4)) * 20)
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2
