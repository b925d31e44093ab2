"""How far a contestant's vectors are from AllenNLP's, layer by layer, on a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.table import Table

from benchmarking.contestants import allennlp_elmo
from benchmarking.text import Batch
from bridge import Checkpoint, ElmoEncoder
from bridge.text.readers import Example


@dataclass
class Agreement:
    """A layer of a contestant beside the same layer of AllenNLP.

    Attributes:
        max_difference: the largest absolute difference of two numbers.
        worst_cosine: the smallest cosine of a token's two vectors.
        worst_token, worst_place: the token that has it, and where it stands.
    """

    contestant: str
    layer: int
    max_difference: float = 0.0
    worst_cosine: float = np.inf
    worst_token: str = ""
    worst_place: str = ""

    def add(self, own: np.ndarray, reference: np.ndarray, example: Example) -> None:
        """Compares a sentence, `(timesteps, output_dim)`. A vector that is not finite is as far off as can be."""
        own, reference = own.astype(np.float64), reference.astype(np.float64)
        cosines = _cosines(own, reference)
        self.max_difference = float(np.maximum(self.max_difference, np.abs(own - reference).max()))
        worst = int(cosines.argmin())
        if cosines[worst] < self.worst_cosine:
            self.worst_cosine = float(cosines[worst])
            self.worst_token = example.tokens[worst]
            self.worst_place = f"{example.place}, token {worst + 1}"


def _cosines(own: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Of each row; 1 for two vectors of zeros, -1 where one is not finite."""
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(reference, axis=1)
    cosines = np.einsum("td,td->t", own, reference) / np.where(norms > 0, norms, 1)
    cosines[(own == reference).all(axis=1)] = 1
    return np.where(np.isfinite(cosines), cosines, -1)


def compare(
    checkpoint: Checkpoint, encoders: dict[str, ElmoEncoder], examples: list[Example], batch_size: int
) -> list[Agreement]:
    """Compares encoders, by name, with AllenNLP on sentences. The state is reset before each batch."""
    bilm = allennlp_elmo(checkpoint)._elmo_lstm
    results = {name: [Agreement(name, layer) for layer in range(checkpoint.num_layers)] for name in encoders}
    for start in range(0, len(examples), batch_size):
        part = examples[start : start + batch_size]
        batch = Batch.of(part)
        reference = list(_allennlp_layers(bilm, batch))
        for name, encoder in encoders.items():
            activations = encoder(batch.char_ids).activations.numpy()
            for row, example in enumerate(part):
                for agreement, layer in zip(results[name], reference, strict=True):
                    tokens = len(example.tokens)
                    agreement.add(activations[row, :tokens, agreement.layer], layer[row, 1 : tokens + 1], example)
    return [agreement for agreements in results.values() for agreement in agreements]


def _allennlp_layers(bilm: Any, batch: Batch) -> Iterator[np.ndarray]:
    bilm._elmo_lstm.reset_states()
    with torch.no_grad():
        activations = bilm(batch.torch_ids)["activations"]
    for layer in activations:
        yield layer.numpy()


def agreement_table(agreements: list[Agreement]) -> Table:
    """A row a layer."""
    table = Table("contestant", "layer", "max difference", "worst cosine", "worst token", "where")
    for previous, agreement in zip([None, *agreements], agreements, strict=False):
        if previous and previous.contestant != agreement.contestant:
            table.add_section()
        values = asdict(agreement)
        table.add_row(
            agreement.contestant if agreement.layer == 0 else "",
            str(agreement.layer),
            f"{agreement.max_difference:.1e}",
            f"{values['worst_cosine']:.7f}",
            f"{agreement.worst_token:.40}",
            agreement.worst_place,
        )
    return table
