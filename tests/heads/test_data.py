"""Batches hold every example once, in the order of their seed and epoch, each padded to its own longest."""

import numpy as np
import pytest
from heads.examples import LABELS, TAGS, labelled, tagged

from bridge.errors import InputTypeError, InputValueError
from bridge.heads import LabelledData
from bridge.heads.data import labels_of
from bridge.text.readers import Example


def sentences(data: LabelledData, batch_size: int, seed: int | None) -> list[tuple[str, ...]]:
    """What the batches hold, unpadded."""
    rows = []
    for tokens, targets in data.batches(batch_size, seed):
        lengths = np.sum(tokens.numpy() != b"", axis=1)
        assert lengths.max() == tokens.shape[1]
        for row, target, length in zip(tokens.numpy(), targets.numpy(), lengths, strict=True):
            names = [TAGS[tag] for tag in target[:length]] if np.ndim(target) else [LABELS[target]]
            rows.append((*(token.decode() for token in row[:length]), *names))
    return rows


@pytest.mark.parametrize(("make", "labels"), [(tagged, TAGS), (labelled, LABELS)])
def test_every_epoch_has_every_example_once_in_its_own_order(make, labels) -> None:  # type: ignore[no-untyped-def]
    examples = make(23, 0)
    wanted = [(*item.tokens, *([item.target] if isinstance(item.target, str) else item.target)) for item in examples]
    data = LabelledData(examples, labels)
    epochs = []
    for data.epoch in range(3):
        order = np.random.default_rng([7, data.epoch]).permutation(23)
        epochs.append(sentences(data, 4, 7))
        assert epochs[-1] == [wanted[index] for index in order]
    assert epochs[0] != epochs[1] != epochs[2]
    data.epoch = 1
    assert sentences(data, 4, 7) == epochs[1]


def test_unshuffled_the_shortest_come_first() -> None:
    data = LabelledData(tagged(23, 0), TAGS)
    lengths = [len(row) for row in sentences(data, 4, None)]
    assert lengths == sorted(lengths)
    assert int(data.batches(4).cardinality()) == 6


def test_fingerprints_tell_data_apart() -> None:
    examples = tagged(5, 0)
    same = [item._replace(place="elsewhere") for item in examples]
    assert LabelledData(examples, TAGS).fingerprint == LabelledData(same, TAGS).fingerprint
    others = (
        examples[1:],
        examples[::-1],
        [examples[0]._replace(tokens=["x"] * len(examples[0].tokens)), *examples[1:]],
    )
    assert LabelledData(examples, TAGS).fingerprint not in {LabelledData(other, TAGS).fingerprint for other in others}


def test_labels_are_sorted_with_outside_first() -> None:
    assert labels_of([Example(["a", "b"], ["I-B", "B-A"]), Example(["c"], ["O"])]) == ["O", "B-A", "I-B"]
    assert labels_of([Example(["a"], "y"), Example(["a"], "x")]) == ["x", "y"]


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (Example("anna"), InputTypeError, "A sentence must be a list of tokens. Received: 'anna'"),  # type: ignore[arg-type]
        (Example([], [], "a.tsv, line 3"), InputValueError, "a.tsv, line 3: a sentence must have tokens"),
        (Example(["a", ""], ["O", "O"]), InputValueError, "A sentence must have tokens, none of them empty"),
        # Beside an example with a tag more than tokens, the sum would be right.
        (Example(["a", "b"], ["O"]), InputValueError, r"one for each of its 2 tokens. Received: \['O'\]"),
        (Example(["a"], "O"), InputValueError, "An example must have a list of tags"),
        (Example(["a"]), InputValueError, "An example must have a list of tags.* Received: None"),
    ],
)
def test_examples_must_be_whole(wrong: Example, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        LabelledData([*tagged(2, 0), wrong], TAGS)


def test_labels_do_not_stand_beside_tags() -> None:
    with pytest.raises(InputValueError, match=r"An example must have a label, as a string. Received: \['O'\]"):
        LabelledData([*labelled(2, 0), Example(["a"], ["O"])], LABELS)


def test_errors() -> None:
    with pytest.raises(InputValueError, match="Data must have an example"):
        LabelledData([], LABELS)
    with pytest.raises(InputValueError, match=r"a.tsv, line 3: a label must be one of home, travel. Received: 'work'"):
        LabelledData([Example(["a"], "work", "a.tsv, line 3")], LABELS)
    with pytest.raises(InputValueError, match="`labels` must be two or more different"):
        LabelledData(labelled(2, 0), ["home", "home"])
    with pytest.raises(InputValueError, match="`batch_size` must be at least 1"):
        LabelledData(labelled(2, 0), LABELS).batches(0)
