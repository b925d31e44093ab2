"""PyTorch's optimizers, with a state that is there from the begin, and without a crash beside TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch

from bridge.errors import ProcessError
from bridge.packages import is_importable, numbers
from bridge.pretrain.settings import Optimizer


def check_process() -> None:
    """Raises ProcessError where an optimizer would end the process, which it does without a word.

    An optimizer of PyTorch's CUDA build imports triton, and that must not come after TensorFlow.
    """
    if "tensorflow" in sys.modules and "triton" not in sys.modules and is_importable("triton"):
        raise ProcessError(
            "A biLM must be trained in a process that has not imported TensorFlow before triton, which PyTorch's "
            "optimizers import: the process would crash. Received: TensorFlow, and no triton yet. Run `elmo-bridge "
            "pretrain`, train in a program of its own, or write `import triton` before anything imports TensorFlow."
        )


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], optimizer: Optimizer, learning_rate: float
) -> torch.optim.Optimizer:
    """The optimizer of that name.

    Every parameter has its state at once, not at its first gradient, so that what a resumed run reads is what was
    saved, whatever had a gradient until then.
    """
    parameters = list(parameters)
    if optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr=learning_rate, initial_accumulator_value=1.0)
    device = parameters[0].device
    # One pass over memory in the place of ten: for 30 million parameters on one core 27 ms, not 254.
    fused = device.type == "cuda" or numbers(torch.__version__) >= (2, 4)
    adam = torch.optim.Adam(parameters, lr=learning_rate, fused=fused)
    for parameter in parameters:
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        step = torch.zeros((), dtype=torch.float32, device=device if fused else None)
        adam.state[parameter] = {"step": step, **moments}
    return adam
