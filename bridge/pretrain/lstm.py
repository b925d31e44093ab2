"""The biLM's LSTM with projection, both directions at once, with a gradient of its own: `lstm`."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

State = tuple[torch.Tensor, torch.Tensor]


class LstmWeights(NamedTuple):
    """What AllenNLP's `LstmCellWithProjection` holds, the forward and the backward cell on top of each other.

    Gates are in AllenNLP's order: input, forget, memory, output.
    """

    input: torch.Tensor
    """`(2, 4 * dim, projection_dim)`"""
    recurrent: torch.Tensor
    """`(2, 4 * dim, projection_dim)`"""
    bias: torch.Tensor
    """`(2, 4 * dim)`"""
    projection: torch.Tensor
    """`(2, projection_dim, dim)`"""


def lstm(
    inputs: torch.Tensor,
    state: State,
    weights: LstmWeights,
    cell_clip: float | None,
    proj_clip: float | None,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, State]:
    """Runs one layer of both directions over `timesteps` steps; each direction reads its inputs from the left.

    AllenNLP's loop has autograd remember every operation of every step, and adds a step's share to the gradient of
    every weight. Here all steps' inputs are multiplied at once, and a weight's gradient is one product in the end.
    The gradient may be taken once.

    Args:
        inputs: `(2, timesteps, batch, projection_dim)`.
        state: hidden `(2, batch, projection_dim)` and cell `(2, batch, dim)` before the first step. No gradient
            goes there: backpropagation is truncated.
        weights: of the layer.
        cell_clip, proj_clip: where the cell and the projected output are cut; 0 or None is nowhere.
        dtype: of the products; by default that of `inputs`. Sums, gates and cells stay as precise as `inputs`.

    Returns:
        The projected outputs, as `inputs`, and the state after the last step, detached.

    Reference:
        Peters et al. 2018, section 3.2; AllenNLP's `LstmCellWithProjection`.
    """
    outputs, hidden, cell = _Lstm.apply(inputs, *state, *weights, cell_clip, proj_clip, dtype or inputs.dtype)
    return outputs, (hidden, cell)


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        hidden: torch.Tensor,
        cell: torch.Tensor,
        w_input: torch.Tensor,
        w_recurrent: torch.Tensor,
        bias: torch.Tensor,
        w_projection: torch.Tensor,
        cell_clip: float | None,
        proj_clip: float | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        _, timesteps, batch, projection_dim = inputs.shape
        dim = cell.shape[-1]
        gates = _product(inputs.flatten(1, 2), w_input.mT, dtype).add_(bias[:, None]).unflatten(1, (timesteps, batch))
        # Before they are cut; the first of each is the state that was there.
        cells = inputs.new_empty(2, timesteps + 1, batch, dim)
        outputs = inputs.new_empty(2, timesteps + 1, batch, projection_dim)
        cells[:, 0], outputs[:, 0] = cell, hidden
        tanhs = inputs.new_empty(2, timesteps, batch, dim)
        recurrent, projection = w_recurrent.mT.to(dtype), w_projection.mT.to(dtype)
        for step in range(timesteps):
            gate = gates[:, step]
            _add_product(gate, hidden, recurrent)
            i, f, j, o = gate.chunk(4, dim=-1)
            gate[..., : 2 * dim].sigmoid_()
            j.tanh_()
            o.sigmoid_()
            cell = _cut(torch.mul(i, j, out=cells[:, step + 1]).addcmul_(f, cell), cell_clip)
            tanh = torch.tanh(cell, out=tanhs[:, step])
            hidden = _cut(outputs[:, step + 1].copy_(_product(o * tanh, projection, dtype)), proj_clip)
        ctx.save_for_backward(inputs, w_input, w_recurrent, w_projection)
        ctx.trace = (gates, cells, tanhs, outputs)  # not saved by autograd: `backward` writes into them
        ctx.clips, ctx.dtype = (cell_clip, proj_clip), dtype
        cut, hidden, cell = _cut(outputs[:, 1:], proj_clip).clone(), hidden.clone(), cell.clone()
        ctx.mark_non_differentiable(hidden, cell)
        return cut, hidden, cell

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_outputs: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        inputs, w_input, w_recurrent, w_projection = ctx.saved_tensors
        (gates, cells, tanhs, outputs), ctx.trace = ctx.trace, None
        (cell_clip, proj_clip), dtype = ctx.clips, ctx.dtype
        d_raw = torch.empty_like(d_outputs)
        d_hidden, d_cell = torch.zeros_like(outputs[:, 0]), torch.zeros_like(cells[:, 0])
        recurrent, projection = w_recurrent.to(dtype), w_projection.to(dtype)
        # All of a step while it is in the processor's cache. A gradient takes the place of what it was made from.
        for step in reversed(range(inputs.shape[1])):
            d_step = torch.add(d_outputs[:, step], d_hidden, out=d_raw[:, step])
            _stop_where_cut(d_step, outputs[:, step + 1], proj_clip)
            d_projected = _product(d_step, projection, dtype)
            d_gate, tanh = gates[:, step], tanhs[:, step]
            i, f, j, o = d_gate.chunk(4, dim=-1)
            projected = o * tanh
            d_cell.addcmul_(d_projected, torch.addcmul(o, projected, tanh, value=-1))
            _stop_where_cut(d_cell, cells[:, step + 1], cell_clip)
            d_next_cell = f * d_cell
            d_input, d_memory = i * j, torch.addcmul(i, i * j, j, value=-1)
            torch.addcmul(d_input, d_input, i, value=-1, out=i).mul_(d_cell)
            f.addcmul_(f, f, value=-1).mul_(cells[:, step] if step == 0 else _cut(cells[:, step], cell_clip)).mul_(
                d_cell
            )
            torch.mul(d_memory, d_cell, out=j)
            torch.addcmul(projected, projected, o, value=-1, out=o).mul_(d_projected)
            tanh.copy_(projected)
            d_cell = d_next_cell
            d_hidden = _product(d_gate, recurrent, dtype)

        d_gates = gates.flatten(1, 2)
        hidden_before = torch.cat([outputs[:, :1], _cut(outputs[:, 1:-1], proj_clip)], dim=1)
        d_inputs = _product(d_gates, w_input, dtype).view_as(inputs)
        d_w_input = _product(d_gates.mT, inputs.flatten(1, 2), dtype)
        d_w_recurrent = _product(d_gates.mT, hidden_before.flatten(1, 2), dtype)
        d_w_projection = _product(d_raw.flatten(1, 2).mT, tanhs.flatten(1, 2), dtype)
        return d_inputs, None, None, d_w_input, d_w_recurrent, d_gates.sum(dim=1), d_w_projection, None, None, None


def _cut(values: torch.Tensor, clip: float | None) -> torch.Tensor:
    return values.clamp(-clip, clip) if clip else values


def _stop_where_cut(gradient: torch.Tensor, values: torch.Tensor, clip: float | None) -> None:
    if clip:
        gradient.masked_fill_(values.abs() > clip, 0.0)


def _product(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`a @ b` of each direction, multiplied in `dtype`, as precise as `a` afterwards."""
    return torch.bmm(a.to(dtype), b.to(dtype)).to(a.dtype)


def _add_product(sums: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """`sums += a @ b` of each direction; `b` says what it is multiplied in."""
    if b.dtype == sums.dtype:
        sums.baddbmm_(a, b)
    else:
        sums.add_(torch.bmm(a.to(b.dtype), b))
