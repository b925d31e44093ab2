"""Writing predictions as text: a label or tags beside their sentence, in the formats that `readers` reads."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from bridge.errors import InputValueError
from bridge.text.readers import TARGETS, Format, Task


class PredictionWriter:
    """Turns predictions into lines.

    | format | classify | tag |
    |---|---|---|
    | text | `label`, its probability and the sentence, separated by tabs | the tags, separated by spaces |
    | tsv | the columns `sentence`, `label`, `probability`, named by the first line | `sentence`, `tags` |
    | jsonl | `tokens`, `label`, `probability` | `tokens`, `tags` |
    | conll | (has no labels) | a line a token: the token, a tab, its tag; a blank line after a sentence |

    A sentence without tokens is an empty line (CoNLL: nothing).

    Args:
        format: the format to write.
        task: what is predicted.

    Raises:
        InputValueError: CoNLL for labels, or a token, tag or label that the format cannot hold.
    """

    def __init__(self, format: Format, task: Task) -> None:
        if format == "conll" and task == "classify":
            raise InputValueError(
                'CoNLL has no place for labels. Received: output format "conll" for a classifier. Use "tsv" or "jsonl".'
            )
        self.format, self.task = format, task

    def header(self) -> str:
        """What comes before the first prediction."""
        if self.format != "tsv":
            return ""
        return "sentence\tlabel\tprobability\n" if self.task == "classify" else "sentence\ttags\n"

    def lines(self, tokens: Sequence[str], target: str | Sequence[str] | None, probability: float | None = None) -> str:
        """The line or lines of one sentence, each with its end; `target` is the label or the tags."""
        if not tokens:
            return "" if self.format == "conll" else "\n"
        if self.format == "jsonl":
            record: dict[str, Any] = {"tokens": list(tokens), TARGETS[self.task]: target}
            if probability is not None:
                record["probability"] = round(probability, 6)
            return json.dumps(record, ensure_ascii=False) + "\n"
        words = [*tokens, *(target or ())] if self.task == "tag" else tokens
        for word in words:
            if len(word.split()) != 1:
                raise InputValueError(
                    f"A token or tag must have no whitespace in it to be written as {self.format}. Received: "
                    f'{word!r:.80}. Use the output format "jsonl".'
                )
        if self.format == "conll":
            return "".join(f"{token}\t{tag}\n" for token, tag in zip(tokens, target or (), strict=True)) + "\n"
        sentence = " ".join(tokens)
        if self.task == "classify":
            if re.search(r"[\t\r\n]", str(target)):
                raise InputValueError(
                    f"A label must have no tab and no end of line in it to be written as {self.format}. Received: "
                    f'{target!r:.80}. Use the output format "jsonl".'
                )
            fields = [str(target), f"{probability:.4f}"]
            fields = [*fields, sentence] if self.format == "text" else [sentence, *fields]
            return "\t".join(fields) + "\n"
        tags = " ".join(target or ())
        return (tags if self.format == "text" else f"{sentence}\t{tags}") + "\n"
