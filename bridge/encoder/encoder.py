"""Character ids to every layer of the biLM: `ElmoEncoder`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch

from bridge.checks import check_choice, check_integer
from bridge.encoder.elmo_import import import_elmo
from bridge.errors import InputTypeError, InputValueError, ProcessError
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.text.character_checks import check_character_ids, check_character_ids_form
from bridge.text.characters import batch_to_ids, token_lists

State = Literal["zero", "carry"]
Engine = Literal["auto", "allennlp"]
Layers = Literal["all", "top", "average"]

# Building borrows torch's seed and default dtype, which are the whole process's: one encoder at a time.
_building = threading.Lock()


class BiLmOutput(NamedTuple):
    """What `ElmoEncoder` returns.

    Attributes:
        activations: float32 `(batch, timesteps, num_layers, output_dim)`, zeros at padding. Layer 0 is the
            context-independent token layer twice, side by side; the others are the LSTM layers, forward and
            backward side by side.
        mask: bool `(batch, timesteps)`, true where a token is.
    """

    activations: torch.Tensor
    mask: torch.Tensor


class ElmoEncoder:
    """AllenNLP's `Elmo`, from character ids to every layer of its biLM.

    Args:
        config: which weights: what `ElmoConfig.load` accepts.
        state: `"zero"` starts every sentence from the zero state, so that its vectors do not depend on the
            sentences before or beside it. `"carry"` is AllenNLP's own behaviour: row `i` of a batch starts from
            the state in which row `i` of the batch before it ended.
        engine: `"allennlp"` runs AllenNLP's own biLM; `"auto"` picks the fastest exact one, which is that.
        device: where PyTorch runs the biLM, such as `"cuda"`; the CPU by default.
        keep_sentence_boundaries: keep the vectors of the begin and end of the sentence: `timesteps` grows by 2.
        max_tokens_per_pass: memory budget. A larger batch is run in several passes, each of sentences of similar
            length and of at most so many timesteps, padding and boundaries included (or of one sentence). At the
            size of the original model 4096 timesteps take about 2 GB. Not with `state="carry"`, which ties
            sentences to rows.

    Call arguments:
        char_ids: integers `(batch, timesteps, 50)` of at least 16 bits, as `batch_to_ids` makes them: a NumPy
            array or a tensor. Rows are padded with zeros at the end.
        mask: optional, `(batch, timesteps)`, bool or 0/1, true where a token is. What it masks counts as padding.
            It may only cut the end of a row, and must not claim a token where the ids have none.

    Returns:
        A `BiLmOutput` of fresh tensors on the CPU. An empty batch gives an empty result.

    Raises:
        InputTypeError, InputValueError: an argument breaks the rules above.
        ProcessError: called in a process that was forked after the encoder was made, or after another one ran.
        MissingDependencyError: AllenNLP is not installed.
        ResourceNotFoundError, CheckpointError: see `Checkpoint.open`.

    Safe to call from several threads: calls take turns.

    Example:
        >>> encoder = ElmoEncoder("demo")
        >>> activations, mask = encoder(batch_to_ids([["The", "cat", "sat"], ["Hello"]]))
        >>> [vectors.shape for vectors in encoder.embed([["The", "cat", "sat"], ["Hello"]], layers="top")]
        [(3, 128), (1, 128)]

    Reference:
        Peters et al. 2018, "Deep contextualized word representations"; AllenNLP 2.10.1, `allennlp.modules.elmo`.
    """

    # The process in which an encoder first ran: PyTorch's threads live there, and not in its forked children.
    _first_run_pid: ClassVar[int | None] = None

    def __init__(
        self,
        config: str | os.PathLike[str] | ElmoConfig | None = None,
        *,
        state: State = "zero",
        engine: Engine = "auto",
        device: str | int | torch.device | None = None,
        keep_sentence_boundaries: bool = False,
        max_tokens_per_pass: int = 4096,
    ) -> None:
        check_choice("state", state, State)
        check_choice("engine", engine, Engine)
        check_integer("max_tokens_per_pass", max_tokens_per_pass, minimum=1)
        self.checkpoint = Checkpoint.open(config)
        self.state = state
        self.engine = "allennlp" if engine == "auto" else engine
        self.device = _device(device)
        self.keep_sentence_boundaries = keep_sentence_boundaries
        self.max_tokens_per_pass = max_tokens_per_pass
        self._lock = threading.Lock()
        self._pid = os.getpid()
        # AllenNLP draws random weights before it loads the real ones: keep that out of the caller's seed.
        # The caller's default dtype, default device and inference mode must not shape the module either.
        with (
            _building,
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.device("cpu"),
            _float32_by_default(),
        ):
            self.module = import_elmo().Elmo(
                str(self.checkpoint.options_file),
                str(self.checkpoint.weight_file),
                num_output_representations=1,
                dropout=0.0,
                keep_sentence_boundaries=keep_sentence_boundaries,
            )
        self.module.to(self.device).eval()

    @property
    def num_layers(self) -> int:
        """Number of biLM layers, the token layer included."""
        return self.checkpoint.num_layers

    @property
    def output_dim(self) -> int:
        """Width of every layer."""
        return self.checkpoint.output_dim

    def __call__(self, char_ids: Any, mask: Any = None) -> BiLmOutput:
        ids = _as_array(char_ids, "char_ids")
        check_character_ids_form(ids.dtype.name, ids.shape)
        lengths = check_character_ids(ids, None if mask is None else _as_array(mask, "mask"))
        self._check_process()
        batch, timesteps = ids.shape[0], ids.shape[1] + (2 if self.keep_sentence_boundaries else 0)
        # Neither inference mode, whose tensors could not be carried out of it, nor autocast comes in from the caller.
        autocast = torch.autocast("cuda" if self.device.type == "cuda" else "cpu", enabled=False)
        with self._lock, torch.inference_mode(False), autocast, torch.no_grad():
            output = BiLmOutput(
                torch.zeros(batch, timesteps, self.num_layers, self.output_dim, dtype=torch.float32, device="cpu"),
                torch.zeros(batch, timesteps, dtype=torch.bool, device="cpu"),
            )
            for rows in self._passes(lengths):
                longest = int(lengths[rows].max())
                # A copy, which PyTorch may hold on to: the caller's memory may be read-only, or TensorFlow's.
                pass_ids = ids[rows, :longest].astype(np.int64)
                pass_ids[np.arange(longest) >= lengths[rows, None]] = 0
                self._run(torch.from_numpy(pass_ids), rows, output)
        return output

    def embed(self, sentences: Sequence[Sequence[str]], layers: Layers = "all") -> list[np.ndarray]:
        """Token lists to NumPy vectors, in one call.

        Args:
            sentences: a list of sentences, each a list of tokens, of any number: they are run in passes.
            layers: `"all"`, `"top"` (the last LSTM layer) or `"average"` (the mean of all layers).

        Returns:
            For each sentence float32 `(timesteps, num_layers, output_dim)` with `"all"`, else
            `(timesteps, output_dim)`. `timesteps` is the number of tokens, plus 2 with sentence boundaries.

        Raises:
            InputTypeError, InputValueError: see `batch_to_ids`.
        """
        check_choice("layers", layers, Layers)
        sentences = token_lists(sentences)
        lengths = np.array([len(sentence) for sentence in sentences], dtype=np.intp)
        result: list[np.ndarray] = [np.empty(0)] * len(sentences)
        for rows in self._passes(lengths):
            activations, mask = self(batch_to_ids([sentences[row] for row in rows]))
            if layers == "top":
                activations = activations[:, :, -1]
            elif layers == "average":
                activations = activations.mean(dim=2)
            for row, values, length in zip(rows, activations, mask.sum(dim=1), strict=True):
                result[row] = values[:length].numpy().copy()
        return result

    def reset_states(self) -> None:
        """Forgets every carried state."""
        self._check_process()
        with self._lock:
            self._bilm._elmo_lstm.reset_states()

    def _check_process(self) -> None:
        """Raises ProcessError where a call would hang, and notes that PyTorch runs in this process from now on."""
        first = ElmoEncoder._first_run_pid = ElmoEncoder._first_run_pid or os.getpid()
        # A process that keeps to one thread, as a DataLoader's worker does, starts none and can't hang.
        if os.getpid() != self._pid or (os.getpid() != first and torch.get_num_threads() > 1):
            raise ProcessError(
                "An ElmoEncoder must be used in the process that made it, and not in one forked after PyTorch ran: "
                "PyTorch's threads do not survive a fork, and the call would hang. Start child processes with "
                "multiprocessing's 'spawn' method, and make the encoder in them."
            )

    @property
    def _bilm(self) -> Any:
        # Looked up at every call: `module` is live, and its biLM may be replaced.
        return self.module._elmo_lstm

    def _passes(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of each pass: all of them in the given order if they fit the budget, else longest first."""
        if len(lengths) == 0:
            return
        steps = lengths + 2  # AllenNLP adds both boundaries
        if self.state == "carry" or len(steps) * steps.max() <= self.max_tokens_per_pass:
            yield np.arange(len(lengths))
            return
        order = np.argsort(-steps, kind="stable")
        start = 0
        while start < len(order):
            rows = max(1, self.max_tokens_per_pass // int(steps[order[start]]))
            yield order[start : start + rows]
            start += rows

    def _run(self, char_ids: torch.Tensor, rows: np.ndarray, output: BiLmOutput) -> None:
        """Runs the biLM on one pass and writes its rows of the output."""
        bilm = self._bilm
        if self.state == "zero":
            bilm._elmo_lstm.reset_states()
        result = bilm(char_ids.to(self.device))
        # The module is live: its user may have changed its precision.
        layers = [layer.float().cpu() for layer in result["activations"]]
        mask = result["mask"].cpu()
        if not self.keep_sentence_boundaries:
            # Dropping both ends leaves the end-of-sentence vector of shorter rows behind: masked out here.
            mask = char_ids.any(dim=-1)
            layers = [layer[:, 1:-1] * mask[:, :, None] for layer in layers]
        target = torch.from_numpy(rows)
        output.mask[target, : mask.shape[1]] = mask
        for index, layer in enumerate(layers):
            output.activations[target, : mask.shape[1], index] = layer


def _device(device: str | int | torch.device | None) -> torch.device:
    try:
        found = torch.device("cpu" if device is None else device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # torch's words for an unknown device and for a missing one
        raise InputValueError(
            f'`device` must be a device that PyTorch has here, such as "cpu" or "cuda". Received: {device!r} ({error}).'
        ) from error
    return found


def _as_array(values: Any, argument: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, list | tuple) or not hasattr(values, "__array__"):
        remedy = {
            "char_ids": "Sentences go through `batch_to_ids` first; nested lists of ids through "
            "`np.array(ids, dtype='int32')`.",
            "mask": "Nested lists go through `np.array(mask, dtype=bool)` first.",
        }[argument]
        raise InputTypeError(
            f"`{argument}` must be a NumPy array or a tensor. Received: {values!r:.80} of type "
            f"{type(values).__name__}. {remedy}"
        )
    return np.asarray(values)


@contextmanager
def _float32_by_default() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
