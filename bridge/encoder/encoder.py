"""Character ids to every layer of the biLM: `ElmoEncoder`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
import torch

from bridge.checks import check_boolean, check_choice, check_integer
from bridge.encoder.allennlp_engine import AllenNlpEngine
from bridge.encoder.arguments import Engine, Layers, State, as_array, as_device
from bridge.encoder.build import build_elmo
from bridge.encoder.fused import TOKEN_CACHE_BYTES, FusedBiLm
from bridge.encoder.linear import Precision
from bridge.encoder.passes import passes
from bridge.encoder.token_vectors import TokenCacheInfo
from bridge.errors import CheckpointError, InputValueError, ProcessError, UnsupportedError
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.text.character_checks import check_character_ids, check_character_ids_form
from bridge.text.characters import batch_to_ids, token_lists

# Of the fused biLM: more rows at once are no faster, and their gates take memory.
MAX_ROWS_PER_PASS = 256


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
        config: which weights: what `ElmoConfig.load` accepts, an open `Checkpoint`, or `SharedWeights`.
        state: where every sentence starts. `"zero"`: from the zero state. `"warm"`: from the state in which a short
            text that comes with the package leaves this biLM. With both, vectors do not depend on the sentences
            before or beside. `"carry"` is AllenNLP's own behaviour: row `i` of a batch starts from the state in
            which row `i` of the batch before it ended.
        engine: `"fused"` runs a biLM that computes AllenNLP's numbers several times faster (`FusedBiLm`),
            `"allennlp"` AllenNLP's own. `"auto"` is `"fused"`; only where gradients go through the biLM, as in
            `ElmoEmbedding(requires_grad=True)`, it is `"allennlp"`.
        precision: of the fused biLM's products: `"float32"`, or `"bfloat16"` or `"float16"`, which are faster on
            processors that have them and less exact; others compute about the same numbers and gain nothing. The
            difference to float32 depends on the weights: measure yours with `scripts/benchmark.py --agreement`.
            Results are float32 in any case.
        device: where PyTorch runs the biLM, such as `"cuda"`; the CPU by default.
        keep_sentence_boundaries: keep the vectors of the begin and end of the sentence: `timesteps` grows by 2.
        max_tokens_per_pass: memory budget. A larger batch is run in several passes, each of sentences of similar
            length and of at most so many tokens, padding and boundaries included (or of one sentence). Of the original
            model 4096 tokens take about 0.35 GB beside the result, and about 2 GB with `engine="allennlp"`, where a
            batch with `state="carry"` is not split: it ties sentences to rows.
        token_cache_bytes: memory for the vectors of tokens that were seen, which the fused biLM does not compute
            again; the least recently used are forgotten. 0 keeps none.

    Call arguments:
        char_ids: integers `(batch, timesteps, 50)` of at least 16 bits, as `batch_to_ids` makes them: a NumPy
            array or a tensor. Rows are padded with zeros at the end.
        mask: optional, `(batch, timesteps)`, bool or 0/1, true where a token is. What it masks counts as padding.
            It may only cut the end of a row, and must not claim a token where the ids have none.

    Returns:
        A `BiLmOutput` of fresh tensors on the CPU. An empty batch gives an empty result.

    Raises:
        InputTypeError, InputValueError: an argument breaks the rules above.
        CheckpointError: finite weights that are so large, or so damaged, that vectors are not.
        ProcessError: made or called in a process that was forked after an encoder was made or ran.
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
        precision: Precision = "float32",
        device: str | int | torch.device | None = None,
        keep_sentence_boundaries: bool = False,
        max_tokens_per_pass: int = 4096,
        token_cache_bytes: int = TOKEN_CACHE_BYTES,
    ) -> None:
        check_choice("state", state, State)
        check_choice("engine", engine, Engine)
        check_choice("precision", precision, Precision)
        check_boolean("keep_sentence_boundaries", keep_sentence_boundaries)
        check_integer("max_tokens_per_pass", max_tokens_per_pass, minimum=1)
        check_integer("token_cache_bytes", token_cache_bytes, minimum=0)
        if engine == "allennlp" and precision != "float32":
            raise InputValueError(
                '`precision` must be "float32" with `engine="allennlp"`, which computes in that alone. Received: '
                f'{precision!r}. Use `engine="fused"`.'
            )
        self.checkpoint = config if isinstance(config, Checkpoint) else Checkpoint.open(config)
        self.state = state
        self.engine: Engine = "fused" if engine == "auto" else engine
        self.precision = precision
        self.device = as_device(device)
        self.keep_sentence_boundaries = keep_sentence_boundaries
        self.max_tokens_per_pass = max_tokens_per_pass
        self._lock = threading.RLock()
        self._pid = os.getpid()
        if self.engine == "fused":  # which computes when it is made
            self.check_process()
        self._allennlp = AllenNlpEngine(state, self.device)
        self.module = build_elmo(
            self.checkpoint, self.engine, precision, self.device, keep_sentence_boundaries, token_cache_bytes
        )

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

        Raises:
            UnsupportedError: the engine is `"fused"`.
        """
        self._check_trainable()
        return self._encode(char_ids, mask, parameters)

    def release_parameters(self) -> dict[str, np.ndarray]:
        """Gives the parameters of AllenNLP's biLM away: afterwards `module` holds none, and only `call_with` works.

        Raises:
            UnsupportedError: the engine is `"fused"`.
        """
        self._check_trainable()
        if self.state == "warm":
            with self._undisturbed():
                self._allennlp.make_warm_states(self._bilm)
        parameters = {name: parameter.detach().cpu().numpy() for name, parameter in self._bilm.named_parameters()}
        self.module.to("meta")
        return parameters

    def _encode(self, char_ids: Any, mask: Any, parameters: Mapping[str, torch.Tensor] | None) -> BiLmOutput:
        ids = as_array(char_ids, "char_ids")
        check_character_ids_form(ids.dtype.name, ids.shape)
        lengths = check_character_ids(ids, None if mask is None else as_array(mask, "mask"))
        self.check_process()
        boundaries = 2 if self.keep_sentence_boundaries else 0
        batch, timesteps, steps = ids.shape[0], ids.shape[1] + boundaries, lengths + boundaries
        dtype = torch.float32 if parameters is None else next(iter(parameters.values())).dtype
        differentiable = parameters is not None and torch.is_grad_enabled()
        states = self._states_as_they_were() if self.state == "carry" else nullcontext()
        with self._undisturbed(), torch.set_grad_enabled(differentiable), states:
            output = BiLmOutput(
                torch.zeros(batch, timesteps, self.num_layers, self.output_dim, dtype=dtype, device="cpu"),
                torch.from_numpy(np.arange(timesteps) < steps[:, None]),
            )
            for rows in self._passes(lengths):
                pass_ids = ids[rows, : lengths[rows].max()]
                arguments = pass_ids, lengths[rows], output.activations, rows
                if isinstance(self._bilm, FusedBiLm):
                    self._bilm.encode(*arguments, self.state, self.keep_sentence_boundaries)
                else:
                    self._allennlp.encode(self._bilm, *arguments, self.keep_sentence_boundaries, parameters)
            if parameters is None and not torch.isfinite(output.activations.sum()):  # one that is not makes it so
                raise CheckpointError(
                    f"The biLM's vectors must be finite. Received: NaN or infinity, with precision={self.precision!r} "
                    f'and the weights {self.checkpoint.config}. Use `precision="float32"`; if that is what you use, '
                    "the weights are damaged: fetch them again, and give their `weight_sha256`."
                )
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
        # With "carry" a sentence is tied to its place in the batch.
        everything = [np.arange(len(lengths))] if len(lengths) else []
        for rows in everything if self.state == "carry" else self._passes(lengths):
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
        self.check_process()
        with self._lock:
            (self._bilm if isinstance(self._bilm, FusedBiLm) else self._bilm._elmo_lstm).reset_states()

    def check_process(self) -> None:
        """Checks that a call can run here, and notes that PyTorch runs in this process from now on.

        Raises:
            ProcessError: a call would hang here.
        """
        first = ElmoEncoder._first_run_pid = ElmoEncoder._first_run_pid or os.getpid()
        # A process that keeps to one thread, as a DataLoader's worker does, starts none and can't hang.
        if os.getpid() != self._pid or (os.getpid() != first and torch.get_num_threads() > 1):
            raise ProcessError(
                "An ElmoEncoder must be used in the process that made it, and not in one forked after PyTorch ran, "
                "even if it was made there: PyTorch's threads do not survive a fork, and the call would hang. Start "
                "child processes with multiprocessing's 'spawn' method, and make the encoder in them."
            )

    def __reduce__(self) -> NoReturn:
        raise UnsupportedError(
            "An ElmoEncoder must not be copied, pickled or sent to another process: it holds the weights of a running "
            "module, locks and threads. Send what it is made of, its config and arguments, and make one there."
        )

    def token_cache_info(self) -> TokenCacheInfo:
        """Hits, misses and sizes of the fused biLM's cache of token vectors.

        Raises:
            UnsupportedError: AllenNLP's biLM has none.
        """
        if not isinstance(self._bilm, FusedBiLm):
            raise UnsupportedError(
                f'`engine` must be "fused" for a cache of token vectors. Received: {self.engine!r}, which has none.'
            )
        return self._bilm.token_cache_info()

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """One call at a time, whatever modes the caller is in."""
        # Neither inference mode, whose tensors could not be carried out of it, nor autocast comes in.
        autocast = torch.autocast("cuda" if self.device.type == "cuda" else "cpu", enabled=False)
        with self._lock, torch.inference_mode(False), autocast:
            yield

    def _states_as_they_were(self) -> AbstractContextManager[None]:
        """Puts the carried states back where the calls inside fail or are interrupted half-way."""
        if isinstance(self._bilm, FusedBiLm):
            return self._bilm.states_as_they_were()
        return self._allennlp.states_as_they_were(self._bilm)

    def _check_trainable(self) -> None:
        if isinstance(self._bilm, FusedBiLm):
            raise UnsupportedError(
                '`engine` must be "allennlp" for parameters and gradients. Received: "fused", whose weights are laid '
                'out for the processor. Make the encoder with `engine="allennlp"`.'
            )

    @property
    def _bilm(self) -> Any:
        # Looked up at every call: `module` is live, and its biLM may be replaced.
        return self.module._elmo_lstm

    def _passes(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of each pass."""
        steps = lengths + 2  # both boundaries are read
        if isinstance(self._bilm, FusedBiLm):
            return passes(steps, self.max_tokens_per_pass, MAX_ROWS_PER_PASS)
        # AllenNLP's biLM ties carried states to the rows of its batch.
        budget = sys.maxsize if self.state == "carry" else self.max_tokens_per_pass
        return passes(steps, budget, sys.maxsize)
