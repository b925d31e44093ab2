"""What the language model predicts a word with: `FullSoftmax` and `AdaptiveSoftmax`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch

# Of logits that are there at a time.
CHUNK_NUMBERS = 1 << 23
# The most frequent words have full vectors, those behind each of these a quarter of the numbers of those before.
ADAPTIVE_CUTOFFS = (2_000, 10_000, 100_000)


class FullSoftmax(torch.nn.Module):
    """A softmax over all words. Its logits are never there all at once: memory does not grow with batch x vocabulary.

    Args:
        dim: of the vectors that predict.
        vocabulary_size: number of words.
        generator: draws the initial weights, uniform within 1 / sqrt(dim), as `torch.nn.Linear` does.

    Call arguments:
        hidden: `(rows, dim)`.
        targets: int64 `(rows,)`.

    Returns:
        The mean negative log likelihood of the targets, in nats. Its gradient may be taken once.
    """

    def __init__(self, dim: int, vocabulary_size: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = dim**-0.5
        weight = torch.rand(vocabulary_size, dim, generator=generator)
        self.weight = torch.nn.Parameter(weight.mul_(2).sub_(1).mul_(bound))
        self.bias = torch.nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        wanted = torch.is_grad_enabled()  # inside it never is
        return _MeanLoss.apply(hidden, targets, self.weight, self.bias, dtype or hidden.dtype, wanted)


class _MeanLoss(torch.autograd.Function):
    """Logits are made, used for loss and gradient alike, and forgotten, some rows at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        wanted: bool,
    ) -> torch.Tensor:
        rows = max(1, CHUNK_NUMBERS // len(weight))
        multiplied = weight.to(dtype)
        total = hidden.new_zeros((), dtype=torch.float64)
        if wanted:
            d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
            d_bias = None if bias is None else torch.zeros_like(bias)
            ctx.gradients = (d_hidden, d_weight, d_bias)
        for start in range(0, len(hidden), rows):
            chunk, target = hidden[start : start + rows].to(dtype), targets[start : start + rows, None]
            logits = (chunk @ multiplied.T).to(hidden.dtype)
            if bias is not None:
                logits += bias
            log_likelihood = torch.log_softmax(logits, dim=1)
            total -= log_likelihood.gather(1, target).sum(dtype=torch.float64)
            if wanted:
                error = torch.exp(log_likelihood, out=logits)
                error.scatter_add_(1, target, error.new_full(target.shape, -1.0)).div_(len(hidden))
                if d_bias is not None:
                    d_bias += error.sum(dim=0)
                d_hidden[start : start + rows] = error.to(dtype) @ multiplied
                d_weight += error.to(dtype).T @ chunk
        return total.div_(len(hidden)).to(hidden.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (d_hidden, d_weight, d_bias), ctx.gradients = ctx.gradients, None
        d_bias = None if d_bias is None else d_bias.mul_(d_loss)
        return d_hidden.mul_(d_loss), None, d_weight.mul_(d_loss), d_bias, None, None


class AdaptiveSoftmax(torch.nn.Module):
    """PyTorch's adaptive softmax, for large vocabularies whose words come in the order of their frequency.

    Its loss is computed as that of `FullSoftmax`, whose args, call arguments and result these are.

    Reference:
        Grave et al. 2017, "Efficient softmax approximation for GPUs".
    """

    def __init__(self, dim: int, vocabulary_size: int, generator: torch.Generator) -> None:
        super().__init__()
        # A tail's vectors must have a number at least, and a cluster a word.
        cutoffs = [cutoff for n, cutoff in enumerate(ADAPTIVE_CUTOFFS, 1) if cutoff < vocabulary_size and dim >= 4**n]
        with torch.random.fork_rng(devices=[]):  # it draws weights of its own
            self.layer = torch.nn.AdaptiveLogSoftmaxWithLoss(
                dim,
                vocabulary_size,
                cutoffs or [vocabulary_size // 2],
                div_value=4.0 if cutoffs else 1.0,
                head_bias=True,
            )
        with torch.no_grad():
            for parameter in self.layer.parameters():
                bound = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.0
                parameter.copy_(torch.rand(parameter.shape, generator=generator).mul_(2).sub_(1).mul_(bound))

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        dtype, wanted = dtype or hidden.dtype, torch.is_grad_enabled()
        # The head predicts a frequent word, or the cluster of another one, and that cluster's tail the word.
        begins = self.layer.cutoffs[:-1]
        clusters = torch.bucketize(targets, torch.tensor(begins, device=targets.device), right=True)
        of_head = torch.where(clusters == 0, targets, begins[0] + clusters - 1)
        head, tails = self.layer.head, cast("Iterable[Iterable[torch.nn.Linear]]", self.layer.tail)
        loss = _MeanLoss.apply(hidden, of_head, head.weight, head.bias, dtype, wanted)
        for number, (tail, begin) in enumerate(zip(tails, begins, strict=True), 1):
            projection, words = tail
            rows = (clusters == number).nonzero().squeeze(1)
            if len(rows):
                vectors = (hidden[rows].to(dtype) @ projection.weight.mT.to(dtype)).to(hidden.dtype)
                of_tail = _MeanLoss.apply(vectors, targets[rows] - begin, words.weight, None, dtype, wanted)
                loss = loss + of_tail * (len(rows) / len(targets))
        return loss
