"""The model that is trained: a biLM, and the softmax with which both of its directions predict words."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bridge.encoder.elmo_import import import_elmo
from bridge.pretrain.batches import Batch
from bridge.pretrain.export import bilm_weights, write_checkpoint
from bridge.pretrain.lstm import LstmWeights, State, lstm
from bridge.pretrain.softmax import AdaptiveSoftmax, FullSoftmax
from bridge.pretrain.token_encoder import token_vectors
from bridge.resources.options import ElmoOptions

Softmax = Literal["full", "adaptive"]
Precision = Literal["float32", "bfloat16"]


class LanguageModel(torch.nn.Module):
    """ELMo's bidirectional language model. The parameters are those of AllenNLP's own modules.

    Each distinct token of a batch goes through the character CNN once. Then both directions run side by side.

    Args:
        options: the sizes.
        weights: the weights to begin with, as `weights.hdf5` has them: `initial_weights(options, seed)`, or
            published ones.
        vocabulary_size: number of words that can be predicted.
        softmax: `"full"`, or `"adaptive"` for large vocabularies.
        dropout: share of the inputs of every LSTM layer, and of the outputs of the last, that is set to zero in
            training. What a layer's residual connection adds is dropped alike, as in bilm-tf.
        precision: of the products of the LSTMs and the softmax. Sums, states and weights are float32, and so is the
            character CNN: of numbers so coarse its maxima would often be the wrong ones.
        seed: draws the initial weights of the softmax.

    Call arguments:
        batch: see `Batch`.
        state: what `initial_state` or the call before returned.

    Returns:
        `(2,)`: the mean negative log likelihood of the targets in nats, forward and backward; 0.0 where a batch has
        none. And the state after the batch, without a gradient. Call `backward` on the loss at most once.

    Reference:
        Peters et al. 2018, "Deep contextualized word representations", section 3.
    """

    def __init__(
        self,
        options: ElmoOptions,
        weights: Mapping[str, np.ndarray],
        vocabulary_size: int,
        *,
        softmax: Softmax = "full",
        dropout: float = 0.1,
        precision: Precision = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.options = options
        self.dropout = dropout
        self.products = torch.bfloat16 if precision == "bfloat16" else None
        with tempfile.TemporaryDirectory() as folder:
            config = write_checkpoint(Path(folder), options, weights)
            with torch.random.fork_rng(devices=[]):  # AllenNLP draws weights before it reads them
                self.bilm: Any = import_elmo()._ElmoBiLm(config.options_file, config.weight_file, requires_grad=True)
        generator = torch.Generator().manual_seed(seed)
        kind = FullSoftmax if softmax == "full" else AdaptiveSoftmax
        self.softmax = kind(options.lstm.projection_dim, vocabulary_size, generator)

    def initial_state(self, batch_size: int) -> State:
        """Zeros: hidden `(n_layers, 2, batch_size, projection_dim)` and cell `(n_layers, 2, batch_size, dim)`."""
        sizes, like = self.options.lstm, next(self.softmax.parameters())
        hidden = like.new_zeros(sizes.n_layers, 2, batch_size, sizes.projection_dim)
        return hidden, like.new_zeros(sizes.n_layers, 2, batch_size, sizes.dim)

    def forward(self, batch: Batch, state: State) -> tuple[torch.Tensor, State]:
        layers, state = self.activations(batch, state)
        outputs = self._drop(layers[-1])
        targets = torch.from_numpy(batch.targets).flatten(1)
        losses = [self._loss(*both) for both in zip(outputs.flatten(1, 2), targets, strict=True)]
        return torch.stack(losses), state

    def activations(self, batch: Batch, state: State) -> tuple[list[torch.Tensor], State]:
        """All layers, the token layer first, each `(2, unroll_steps, batch_size, projection_dim)`; and the new state.

        The second direction is in the order in which it reads: from the last token of a sentence to the first.
        """
        sizes = self.options.lstm
        vectors = token_vectors(self.bilm._token_embedder, torch.from_numpy(batch.char_ids))
        x = vectors[torch.from_numpy(batch.inputs).to(vectors.device)]
        layers, hiddens, cells = [x], [], []
        for layer, before in enumerate(zip(*state, strict=True)):
            x = self._drop(x)
            outputs, (hidden, cell) = lstm(
                x, before, self._weights_of(layer), sizes.cell_clip, sizes.proj_clip, self.products
            )
            x = outputs + x if layer else outputs
            layers.append(x)
            hiddens.append(hidden)
            cells.append(cell)
        return layers, (torch.stack(hiddens), torch.stack(cells))

    def weights(self) -> dict[str, np.ndarray]:
        """The biLM's weights as `weights.hdf5` has them, float32."""
        return bilm_weights(self.bilm)

    def _loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        is_target = targets >= 0
        if not is_target.all():  # a held-out text that has ended
            hidden, targets = hidden[is_target.to(hidden.device)], targets[is_target]
        return self.softmax(hidden, targets.to(hidden.device), self.products) if len(targets) else hidden.sum()

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, self.dropout, self.training)

    def _weights_of(self, layer: int) -> LstmWeights:
        both = self.bilm._elmo_lstm
        forward, backward = getattr(both, f"forward_layer_{layer}"), getattr(both, f"backward_layer_{layer}")
        return LstmWeights(
            torch.stack([forward.input_linearity.weight, backward.input_linearity.weight]),
            torch.stack([forward.state_linearity.weight, backward.state_linearity.weight]),
            torch.stack([forward.state_linearity.bias, backward.state_linearity.bias]),
            torch.stack([forward.state_projection.weight, backward.state_projection.weight]),
        )
