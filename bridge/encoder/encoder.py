"""Character ids to every layer of the biLM: `ElmoEncoder`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch

from bridge.checks import check_boolean, check_choice, check_integer
from bridge.encoder.arguments import as_array, as_device
from bridge.encoder.build import build_elmo
from bridge.encoder.warm_up import warm_up_batches
from bridge.errors import ProcessError, UnsupportedError
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.text.character_checks import check_character_ids, check_character_ids_form
from bridge.text.characters import batch_to_ids, token_lists

State = Literal["zero", "warm", "carry"]
Engine = Literal["auto", "allennlp"]
Layers = Literal["all", "top", "average"]


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
        config: which weights: what `ElmoConfig.load` accepts, or an open `Checkpoint`.
        state: where every sentence starts. `"zero"`: from the zero state. `"warm"`: from the state in which a short
            text that comes with the package leaves this biLM. With both, vectors do not depend on the sentences
            before or beside. `"carry"` is AllenNLP's own behaviour: row `i` of a batch starts from the state in
            which row `i` of the batch before it ended.
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
        config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None = None,
        *,
        state: State = "zero",
        engine: Engine = "auto",
        device: str | int | torch.device | None = None,
        keep_sentence_boundaries: bool = False,
        max_tokens_per_pass: int = 4096,
    ) -> None:
        check_choice("state", state, State)
        check_choice("engine", engine, Engine)
        check_boolean("keep_sentence_boundaries", keep_sentence_boundaries)
        check_integer("max_tokens_per_pass", max_tokens_per_pass, minimum=1)
        self.checkpoint = config if isinstance(config, Checkpoint) else Checkpoint.open(config)
        self.state = state
        self.engine = "allennlp" if engine == "auto" else engine
        self.device = as_device(device)
        self.keep_sentence_boundaries = keep_sentence_boundaries
        self.max_tokens_per_pass = max_tokens_per_pass
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._warm_state: tuple[torch.Tensor, ...] | None = None
        self._warm_state_of: list[tuple[int, int]] | None = None
        self.module = build_elmo(self.checkpoint, keep_sentence_boundaries, self.device)

    @property
    def num_layers(self) -> int:
        """Number of biLM layers, the token layer included."""
        return self.checkpoint.num_layers

    @property
    def output_dim(self) -> int:
        """Width of every layer."""
        return self.checkpoint.output_dim

    def __call__(self, char_ids: Any, mask: Any = None) -> BiLmOutput:
        if any(parameter.is_meta for parameter in self._bilm.parameters()):
            raise UnsupportedError(
                "The encoder of a layer with requires_grad=True has no weights of its own: they are the layer's Keras "
                "variables. Call the layer, or make an `ElmoEncoder` of its own."
            )
        return self._encode(char_ids, mask, None)

    def call_with(self, parameters: Mapping[str, torch.Tensor], char_ids: Any, mask: Any = None) -> BiLmOutput:
        """The same call with other biLM parameters, differentiable by them where PyTorch's grad mode is on.

        Args:
            parameters: by name, as `release_parameters` gave them; all of one dtype, which is that of the result.
            char_ids, mask: as in a call.
        """
        return self._encode(char_ids, mask, parameters)

    def release_parameters(self) -> dict[str, np.ndarray]:
        """Gives the biLM's parameters away: afterwards `module` holds none, and only `call_with` works."""
        if self.state == "warm":
            self._make_warm_state()
        parameters = {name: parameter.detach().cpu().numpy() for name, parameter in self._bilm.named_parameters()}
        self.module.to("meta")
        return parameters

    def _encode(self, char_ids: Any, mask: Any, parameters: Mapping[str, torch.Tensor] | None) -> BiLmOutput:
        ids = as_array(char_ids, "char_ids")
        check_character_ids_form(ids.dtype.name, ids.shape)
        lengths = check_character_ids(ids, None if mask is None else as_array(mask, "mask"))
        self._check_process()
        batch, timesteps = ids.shape[0], ids.shape[1] + (2 if self.keep_sentence_boundaries else 0)
        dtype = torch.float32 if parameters is None else next(iter(parameters.values())).dtype
        differentiable = parameters is not None and torch.is_grad_enabled()
        with self._undisturbed(), torch.set_grad_enabled(differentiable):
            output = BiLmOutput(
                torch.zeros(batch, timesteps, self.num_layers, self.output_dim, dtype=dtype, device="cpu"),
                torch.zeros(batch, timesteps, dtype=torch.bool, device="cpu"),
            )
            for rows in self._passes(lengths):
                longest = int(lengths[rows].max())
                # A copy, which PyTorch may hold on to: the caller's memory may be read-only, or TensorFlow's.
                pass_ids = ids[rows, :longest].astype(np.int64)
                pass_ids[np.arange(longest) >= lengths[rows, None]] = 0
                self._run(torch.from_numpy(pass_ids), rows, output, parameters)
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

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """One call at a time, whatever modes the caller is in."""
        # Neither inference mode, whose tensors could not be carried out of it, nor autocast comes in.
        autocast = torch.autocast("cuda" if self.device.type == "cuda" else "cpu", enabled=False)
        with self._lock, torch.inference_mode(False), autocast:
            yield

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

    def _run(
        self,
        char_ids: torch.Tensor,
        rows: np.ndarray,
        output: BiLmOutput,
        parameters: Mapping[str, torch.Tensor] | None,
    ) -> None:
        """Runs the biLM on one pass and writes its rows of the output."""
        # Of the module where it is its own: that is live, and its user may have changed its precision.
        dtype = next(iter(self._bilm.parameters() if parameters is None else parameters.values())).dtype
        self._set_start_state(len(rows), dtype)
        char_ids = char_ids.to(self.device)
        if parameters is None:
            result = self._bilm(char_ids)
        else:
            moved = {name: parameter.to(self.device) for name, parameter in parameters.items()}
            result = torch.func.functional_call(self._bilm, moved, (char_ids,))
        layers = [layer.to("cpu", output.activations.dtype) for layer in result["activations"]]
        mask = result["mask"].cpu()
        if not self.keep_sentence_boundaries:
            # Dropping both ends leaves the end-of-sentence vector of shorter rows behind: masked out here.
            mask = char_ids.any(dim=-1).cpu()
            layers = [layer[:, 1:-1] * mask[:, :, None] for layer in layers]
        target = torch.from_numpy(rows)
        output.mask[target, : mask.shape[1]] = mask
        for index, layer in enumerate(layers):
            output.activations[target, : mask.shape[1], index] = layer

    def _set_start_state(self, rows: int, dtype: torch.dtype) -> None:
        """AllenNLP's LSTM starts from the state that it holds, a row of it for each row of the batch."""
        if self.state == "zero":
            self._bilm._elmo_lstm.reset_states()
        elif self.state == "warm":
            # The module is live. Released parameters are on "meta": there the state is that of the first ones.
            parameters = list(self._bilm.parameters())
            if self._warm_state is None or not (
                parameters[0].is_meta or self._warm_state_of == [(id(part), part._version) for part in parameters]
            ):
                self._make_warm_state()
            states = self._warm_state or ()
            self._bilm._elmo_lstm._states = tuple(part.to(dtype).repeat(1, rows, 1) for part in states)

    def _make_warm_state(self) -> None:
        """Reads the warm-up text, and keeps the state `(n_layers, 1, dim)` and memory in which it ends."""
        with self._undisturbed(), torch.no_grad():
            self._bilm._elmo_lstm.reset_states()
            for char_ids in warm_up_batches():
                self._bilm(torch.from_numpy(char_ids).long().to(self.device))
            self._warm_state = tuple(part.clone() for part in self._bilm._elmo_lstm._states)
            self._warm_state_of = [(id(part), part._version) for part in self._bilm.parameters()]
