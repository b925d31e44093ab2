"""`Steps` reads every token once, in order, and no padding."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bridge.encoder.steps import Batch, Steps

many_lengths = st.lists(st.integers(0, 9), max_size=6).map(lambda lengths: sorted(lengths, reverse=True))


def make_batch(lengths: list[int], seed: int = 0) -> Batch:
    """Tokens are numbered at random, and places are anywhere."""
    generator = np.random.default_rng(seed)
    return Batch(
        np.array(lengths, dtype=np.int64),
        generator.integers(0, 99, size=(len(lengths), max(lengths, default=0))),
        torch.zeros(99, 1),
        generator.permutation(len(lengths) + 3)[: len(lengths)],
    )


@given(lengths=many_lengths, backward=st.booleans(), seed=st.integers(0, 99))
def test_each_step_reads_the_next_token_of_every_row_that_has_one(
    lengths: list[int], backward: bool, seed: int
) -> None:
    batch = make_batch(lengths, seed)
    expected = []
    counts = []
    for step in range(max(lengths, default=0)):
        going_on = [row for row in range(len(lengths)) if lengths[row] > step]
        counts.append(len(going_on))
        for row in going_on:
            time = lengths[row] - 1 - step if backward else step
            expected.append((batch.tokens[row, time], batch.places[row], time))
    steps = Steps.of(batch, backward)
    assert steps.counts == counts
    received = zip(steps.tokens.tolist(), steps.rows.tolist(), steps.times.tolist(), strict=True)
    assert list(received) == expected


@given(lengths=many_lengths, size=st.integers(1, 30))
def test_chunks_are_whole_steps_of_enough_tokens(lengths: list[int], size: int) -> None:
    steps = Steps.of(make_batch(lengths), backward=False)
    chunks = list(steps.chunks(size))
    assert [count for _, counts in chunks for count in counts] == steps.counts
    position = 0
    for number, (chunk, counts) in enumerate(chunks):
        assert (chunk.start, chunk.stop - chunk.start) == (position, sum(counts))
        position = chunk.stop
        assert counts
        # As few steps as that takes; the last chunk is what is left.
        assert sum(counts[:-1]) < size
        assert sum(counts) >= size or number == len(chunks) - 1
    assert position == sum(lengths)


def test_only_empty_rows_are_no_steps() -> None:
    for lengths in ([], [0], [0, 0, 0]):
        steps = Steps.of(make_batch(lengths), backward=True)
        assert steps.counts == []
        assert len(steps.tokens) == len(steps.rows) == len(steps.times) == 0
        assert list(steps.chunks(3)) == []
