"""One step of an LSTM with projection and clipping, for inference: `LstmCell`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from bridge.encoder.linear import Linear, Precision, as_tensor
from bridge.resources.options import LstmOptions


class LayerState(NamedTuple):
    """Where an LSTM layer is: `hidden` `(rows, projection_dim)` and `memory` `(rows, dim)`, float32.

    `memory` is twice the LSTM's memory: see `LstmCell`.
    """

    hidden: torch.Tensor
    memory: torch.Tensor


class LstmCell:
    """An LSTM with projection and clipping, as AllenNLP's `LstmCellWithProjection` computes it.

    A tanh costs more than three times a sigmoid here, so `tanh(x)` is `2 * sigmoid(2 * x) - 1`, and all four gates
    are one sigmoid. The factors are powers of two and signs, which round nothing: the candidate's weights and the
    memory are doubled, and the projection is negated.

    Args:
        weights: see `PreparedWeights`, which has those factors in them.
        name: of the cell, such as `RNN_0/Cell_1`.
        options: of the LSTMs. A limit of None or 0 is none.
        precision, device, share: see `Linear`.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        name: str,
        options: LstmOptions,
        precision: Precision,
        device: torch.device,
        share: bool = False,
    ) -> None:
        self.projection_dim, self.dim = options.projection_dim, options.dim
        bias = as_tensor(weights[f"{name}/bias"])
        self.inputs = Linear(as_tensor(weights[f"{name}/input"]), bias, precision, device, share)
        self._recurrent = Linear(as_tensor(weights[f"{name}/recurrent"]), None, precision, device, share)
        self._projection = Linear(as_tensor(weights[f"{name}/projection"]), None, precision, device, share)
        self._cell_clip = 2 * options.cell_clip if options.cell_clip else torch.inf
        self._proj_clip = options.proj_clip or torch.inf

    def step(
        self,
        inputs: torch.Tensor,
        hidden: torch.Tensor,
        memory: torch.Tensor,
        scratch: torch.Tensor,
        out: torch.Tensor,
    ) -> torch.Tensor:
        """One token of each row.

        Args:
            inputs: `(rows, 4 * dim)`, what `self.inputs` gave.
            hidden: `(rows, projection_dim)`, or one row for all.
            memory: `(rows, dim)`, twice the memory; is changed in place.
            scratch: `(rows, dim)`; is overwritten.
            out: `(rows, projection_dim)`: where the new hidden values go.

        Returns:
            `out`.
        """
        same_rows = len(hidden) == len(inputs)
        gates = self._recurrent(hidden, add=inputs) if same_rows else inputs + self._recurrent(hidden)
        gates = gates.float().sigmoid_()
        input_gate, forget_gate, output_gate, candidate = gates.split(self.dim, dim=1)
        memory.mul_(forget_gate).addcmul_(input_gate, candidate, value=4).sub_(input_gate, alpha=2)
        memory.clamp_(-self._cell_clip, self._cell_clip)
        # Minus the output gate times the memory's tanh.
        activated = torch.sigmoid(memory, out=scratch).mul_(output_gate)
        torch.sub(output_gate, activated, alpha=2, out=activated)
        return torch.clamp(self._projection(activated).float(), -self._proj_clip, self._proj_clip, out=out)
