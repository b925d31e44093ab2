"""Small language models, batches for them, and AllenNLP's own modules as their oracle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import reference
import torch
from models import options_dict
from pretrain import reference_lm

from bridge.encoder.elmo_import import import_elmo
from bridge.pretrain.batches import Batch
from bridge.pretrain.export import write_checkpoint
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.weights import initial_weights
from bridge.resources.checkpoint import expected_datasets
from bridge.resources.options import ElmoOptions

VOCABULARY_SIZE = 12
WORDS = ["<S>", "</S>", "a", "the", "aaaa", "naïve", "日本語", "x" * 30, "internationally", "Ω" * 40, "!"]
# By what they try. `scale` multiplies the weights of the LSTMs; limits this low then cut often.
CASES: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "clipped": {"scale": 2.0, "cell_clip": 0.5, "proj_clip": 0.3},
    "only the cell clipped": {"scale": 2.0, "cell_clip": 0.4, "proj_clip": None, "n_highway": 0},
    "only the projection clipped": {"scale": 2.0, "cell_clip": 0.0, "proj_clip": 0.2, "n_layers": 3},
    "not clipped": {"scale": 2.0, "cell_clip": None, "proj_clip": None},
    "one layer, tanh": {"n_layers": 1, "activation": "tanh"},
    "three layers, two highways": {"n_layers": 3, "n_highway": 2, "scale": 2.0, "cell_clip": 0.6, "proj_clip": 0.5},
    "no highway, one filter": {"n_highway": 0, "filters": ((2, 7),)},
    "filters wider than words": {"filters": ((1, 3), (30, 4), (50, 5)), "activation": "tanh"},
    "projection wider than the cell": {"dim": 3, "projection_dim": 8, "n_characters": 261},
}


def options_of(*, cell_clip: float | None = 3.0, proj_clip: float | None = 3.0, **sizes: Any) -> ElmoOptions:
    """As `models.options_dict`, with a limit each for cell and projection."""
    options = options_dict(**sizes)
    options["lstm"] |= {"cell_clip": cell_clip, "proj_clip": proj_clip}
    return ElmoOptions.model_validate(options)


def random_weights(options: ElmoOptions, seed: int = 0, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Initial weights whose biases are not zero; adding 1 to them loses nothing in float32."""
    generator = np.random.default_rng(seed)
    weights = initial_weights(options, seed, scale)
    for name, values in weights.items():
        if values.ndim == 1:
            weights[name] = (np.round(generator.normal(0, 0.3, values.shape) * 1024) / 1024).astype(np.float32)
    return weights


def random_batch(
    seed: int = 0,
    *,
    unroll_steps: int = 5,
    batch_size: int = 3,
    vocabulary_size: int = VOCABULARY_SIZE,
    missing: float = 0.0,
) -> Batch:
    """Random words at every position, some of them again and again, and random targets, some of them -1."""
    generator = np.random.default_rng(seed)
    shape = (2, unroll_steps, batch_size)
    words = generator.permutation(WORDS)[: 1 + generator.integers(len(WORDS))].tolist()
    targets = generator.integers(vocabulary_size, size=shape)
    targets[generator.random(shape) < missing] = -1
    return Batch(reference.character_ids([words])[0], generator.integers(len(words), size=shape), targets)


def random_state(options: ElmoOptions, batch_size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A float64 state as an earlier step may have left it: within the limits."""
    generator = np.random.default_rng(seed)
    lstm = options.lstm
    hidden, cell = (
        generator.uniform(-1, 1, (lstm.n_layers, 2, batch_size, size)) * (limit or 1.0)
        for size, limit in ((lstm.projection_dim, lstm.proj_clip), (lstm.dim, lstm.cell_clip))
    )
    return torch.from_numpy(hidden), torch.from_numpy(cell)


def model_of(name: str, **arguments: Any) -> tuple[LanguageModel, ElmoOptions, dict[str, np.ndarray]]:
    """A case's model in float64, in evaluation; its options and weights."""
    sizes = dict(CASES[name])
    scale = sizes.pop("scale", 1.0)
    options = options_of(**sizes)
    weights = random_weights(options, scale=scale)
    model = LanguageModel(options, weights, VOCABULARY_SIZE, **arguments).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.softmax.parameters():  # the bias begins as zeros
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model, options, weights


def reference_step(
    options: ElmoOptions,
    weights: Mapping[str, np.ndarray],
    softmax: Mapping[str, np.ndarray],
    batch: Batch,
    state: tuple[torch.Tensor, torch.Tensor],
    tokens: np.ndarray | None = None,
    kinks: reference_lm.Kinks | None = None,
) -> reference_lm.Step:
    """The reference's, from what the model was given; `tokens` spares computing the tokens' vectors."""
    exact = {name: values.astype(np.float64) for name, values in weights.items()}
    sizes = options.model_dump()
    if tokens is None:
        tokens = reference_lm.token_vectors(sizes, exact, batch.char_ids)
    before = (state[0].numpy(), state[1].numpy())
    return reference_lm.language_model_step(sizes, exact, softmax, tokens, *batch[1:], before, kinks)


def allennlp_bilm(options: ElmoOptions, weights: dict[str, np.ndarray], folder: Path) -> Any:
    """AllenNLP's `_ElmoBiLm` of the weights, to be trained, in float64."""
    config = write_checkpoint(folder, options, weights)
    return import_elmo()._ElmoBiLm(config.options_file, config.weight_file, requires_grad=True).double()


def allennlp_layers(
    bilm: Any, batch: Batch, state: tuple[torch.Tensor, torch.Tensor], dropout: float = 0.0
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """AllenNLP's modules on a batch: layers (layers, 2, unroll_steps, batch, projection) and the last state.

    Its `ElmoLstm` gives both directions the same sequence, so its cells are called one by one. The inputs of each are
    dropped as bilm-tf does it, which wraps the residual connection into the dropout.
    """
    # It puts sentence boundaries around what it reads.
    tokens = bilm._token_embedder(torch.from_numpy(batch.char_ids)[None])["token_embedding"][0, 1:-1]
    x = tokens[torch.from_numpy(batch.inputs)]
    layers = [x]
    timesteps, batch_size = batch.inputs.shape[1:]
    hidden, cell = [], []
    for layer in range(bilm._elmo_lstm.num_layers):
        outputs = []
        x = torch.nn.functional.dropout(x, dropout)
        for direction, name in enumerate(("forward", "backward")):
            module = getattr(bilm._elmo_lstm, f"{name}_layer_{layer}")
            # The backward cell reads from the right.
            order = (1,) if direction else ()
            inputs = x[direction].transpose(0, 1).flip(order)
            before = (state[0][layer, direction][None], state[1][layer, direction][None])
            output, after = module(inputs, [timesteps] * batch_size, before)
            outputs.append(output.flip(order).transpose(0, 1))
            hidden.append(after[0][0])
            cell.append(after[1][0])
        x = torch.stack(outputs) + x if layer else torch.stack(outputs)
        layers.append(x)
    shapes = (bilm._elmo_lstm.num_layers, 2, batch_size, -1)
    return torch.stack(layers), (torch.stack(hidden).view(shapes), torch.stack(cell).view(shapes))


def gradients_by_dataset(bilm: Any, options: ElmoOptions, folder: Path) -> dict[str, np.ndarray]:
    """The gradients of an `_ElmoBiLm`'s parameters, where `weights.hdf5` has the values.

    A file of numbered values, loaded by AllenNLP, tells which value went where and with which sign.
    """
    shapes = expected_datasets(options)
    marks, first = {}, 1
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        # Fourfold, so that the 1 that is added to a forget bias is rounded away.
        marks[name] = 4 * np.arange(first, first + size, dtype=np.float32).reshape(shape)
        first += size
    marked = dict(allennlp_bilm(options, marks, folder).named_parameters())
    gradients = np.zeros(first)
    for name, parameter in bilm.named_parameters():
        mark = marked[name].detach().numpy()
        assert parameter.grad is not None, name
        np.add.at(gradients, np.rint(np.abs(mark) / 4).astype(int), np.sign(mark) * parameter.grad.double().numpy())
    return {name: gradients[np.rint(values / 4).astype(int)] for name, values in marks.items()}


def softmax_arrays(model: LanguageModel) -> dict[str, np.ndarray]:
    """The softmax's weights in float64, by the names that the reference has for them."""
    return {name: values.detach().double().numpy() for name, values in softmax_parameters(model).items()}


def softmax_parameters(model: LanguageModel) -> dict[str, torch.nn.Parameter]:
    """The softmax's parameters by the names that the reference has for them."""
    names = {"layer.head.weight": "head", "layer.head.bias": "head_bias"}
    for cluster in range(5):
        names |= {
            f"layer.tail.{cluster}.0.weight": f"tail_{cluster}_down",
            f"layer.tail.{cluster}.1.weight": f"tail_{cluster}",
        }
    return {names.get(name, name): parameter for name, parameter in model.softmax.named_parameters()}
