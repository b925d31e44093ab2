"""Integer word ids to character ids inside a Keras model: `VocabularyCharacterIds`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bridge.errors import InputTypeError, InputValueError, ResourceNotFoundError
from bridge.layers.casts import check_cast_ids
from bridge.layers.character_ids import CharacterIds
from bridge.layers.inputs import check_is_tensor, dtype_of, shape_of
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class VocabularyCharacterIds(keras.layers.Layer):
    """Integer word ids to ELMo's character ids: the drop-in for `Embedding(mask_zero=True)`.

    For data and models that already speak in word ids: `VocabularyCharacterIds(vocabulary)` and an `ElmoEmbedding`
    take the place of the `Embedding`. The layer has no weights, and a saved model holds the words.

    Words that the vocabulary lacks stay lost: ELMo sees the letters of `[UNK]`. It can spell any word, so string
    tokens are the better input where there is a choice.

    Args:
        vocabulary: `vocabulary[i]` is the word of id `i`, and `vocabulary[0]` is `""`, the padding: a list or array of
            strings, as Keras's `get_vocabulary()` returns it; the path of a UTF-8 file with a word a line, the first
            line empty; or an adapted `TextVectorization` or `StringLookup(mask_token="")` layer itself. A word may
            occur twice, as `[UNK]` does with several `num_oov_indices`.
        tokens_to_add: special tokens and their characters, see `batch_to_ids`.
        **kwargs: `name` and so on, as for every Keras layer.

    Call arguments:
        inputs: integer word ids `(batch, timesteps)`, 0 where there is no word. Further axes may come before
            `timesteps`, such as `(batch, passages, timesteps)`.

    Returns:
        int32 `(batch, timesteps, 50)`, with the further axes of the input.

    Masking:
        The mask is `inputs != 0`. An incoming mask cuts it further, not the ids.

    Raises:
        InputTypeError, InputValueError, ResourceNotFoundError: `vocabulary` is not such a vocabulary; the input's
            dtype or rank are wrong, when the model is built.
        InputValueError: an id is not in the vocabulary. In a graph this is a `tf.errors.InvalidArgumentError`
            with the same text.

    Example:
        >>> ids = VocabularyCharacterIds(["", "[UNK]", "the", "cat"])
        >>> ids(tf.constant([[2, 3], [1, 0]])).shape
        TensorShape([2, 2, 50])
    """

    def __init__(
        self,
        vocabulary: Sequence[str] | np.ndarray | str | os.PathLike[str] | keras.layers.Layer,
        tokens_to_add: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        # No autocast: a float policy would turn the id 257 into 256.
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        self.supports_jit = False  # XLA knows no strings
        self._character_ids = CharacterIds(tokens_to_add, name="character_ids")
        words = _encoded_words(vocabulary)
        # The words, not their ids: a tenth of the memory. A tensor, not a weight: graphs refer to it, and it
        # neither trains nor counts. Only the CPU has strings.
        with tf.init_scope(), tf.device("CPU:0"):
            self._words = tf.constant(words)

    @property
    def vocabulary(self) -> list[str]:
        """The words by id."""
        return [word.decode() for word in self._words.numpy()]

    @tf.autograph.experimental.do_not_convert  # AutoGraph would keep the layer alive
    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        check_is_tensor(inputs, "integer word ids")
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._character_ids.build((None, None))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self._check_form(inputs)
        word_ids = tf.cast(check_cast_ids(inputs, "integer word ids", len(self._words) - 1), tf.int64)
        with tf.control_dependencies(self._check_range(word_ids)):
            tokens = tf.gather(self._words, tf.reshape(word_ids, [1, -1]))
        char_ids = tf.reshape(
            self._character_ids(tokens), tf.concat([tf.shape(word_ids), [MAX_CHARACTERS_PER_TOKEN]], axis=0)
        )
        return tf.ensure_shape(char_ids, [*word_ids.shape, MAX_CHARACTERS_PER_TOKEN])

    def _check_form(self, inputs: Any) -> None:
        """Raises unless `inputs` are (symbolic) integers of rank 2 or more that can hold every id."""
        wanted, dtype, shape = (
            "`inputs` must be integer word ids (batch, timesteps)",
            dtype_of(inputs),
            shape_of(inputs),
        )
        if dtype == "string":
            raise InputTypeError(
                f"{wanted}. Received: dtype string. Give string tokens to `ElmoEmbedding` or `CharacterIds` as they "
                "are, without this layer, or turn them into ids with `keras.layers.StringLookup` first."
            )
        if not dtype.startswith(("int", "uint")):
            raise InputTypeError(
                f"{wanted}. Received: dtype {dtype}. Cast the ids where they come from, and declare them to a model "
                'as integers: `keras.Input((None,), dtype="int32")`. What a float policy has rounded is lost: '
                "bfloat16 has no 257."
            )
        if np.iinfo(dtype).max < len(self._words) - 1:
            raise InputTypeError(
                f"{wanted}, of a dtype that holds every id of the vocabulary, from 0 to {len(self._words) - 1}. "
                f"Received: dtype {dtype}; ids above {np.iinfo(dtype).max} are lost already. Make the ids as int32."
            )
        if shape is not None and len(shape) < 2:
            raise InputValueError(
                f"{wanted}. Received: shape {shape}. A single sentence is a batch of one: `inputs[None]`, or "
                '`keras.Input((None,), dtype="int32")` in a model.'
            )

    def _check_range(self, word_ids: tf.Tensor) -> list[tf.Operation]:
        """Raises unless every id has a word; in a graph, returns what does so when it runs."""
        lowest, highest, size = tf.reduce_min(word_ids), tf.reduce_max(word_ids), len(self._words)
        text = (
            f"`inputs` must be word ids from 0 to {size - 1}: the vocabulary has {size} words, padding included. "
            "Received: the id {}. Give the vocabulary that made the ids. Keras's `get_vocabulary()` counts padding "
            "and [UNK]; words that were numbered without padding are off by one."
        )
        # No ids at all: TensorFlow's lowest is then above its highest.
        known = (lowest > highest) | ((lowest >= 0) & (highest < size))
        wrong = tf.where(lowest < 0, lowest, highest)
        if not tf.executing_eagerly():
            return [tf.debugging.Assert(known, [tf.strings.format(text, wrong)])]
        if not known:
            raise InputValueError(text.format(int(wrong)))
        return []

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> tf.Tensor | None:
        if isinstance(inputs, keras.KerasTensor):
            return None  # of a symbolic input; the mask of a real one is computed when the model runs
        tokens = tf.not_equal(inputs, 0)
        return tokens if previous_mask is None else tokens & tf.cast(previous_mask, tf.bool)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, MAX_CHARACTERS_PER_TOKEN)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        self._check_form(inputs)
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="int32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "tokens_to_add": self._character_ids.tokens_to_add,
        }


def _encoded_words(vocabulary: Any) -> list[bytes]:
    """The words by id in UTF-8, from whatever `VocabularyCharacterIds` takes as a vocabulary."""
    source = "`vocabulary`"
    if isinstance(vocabulary, str | os.PathLike):
        source = f"The file of `vocabulary`, {os.fspath(vocabulary)},"
        words = _read_lines(Path(vocabulary))
    elif isinstance(vocabulary, keras.layers.Layer):
        words = _words_of_layer(vocabulary)
    elif isinstance(vocabulary, bytes | Mapping | Set | keras.KerasTensor) or not _is_iterable(vocabulary):
        raise InputTypeError(
            "`vocabulary` must be a list of words, the path of a file with a word a line, or a TextVectorization or "
            f"StringLookup layer. Received: {vocabulary!r:.80} of type {type(vocabulary).__name__}. A dict of words "
            'numbered from 1 becomes a list with `["", *sorted(word_index, key=word_index.get)]`.'
        )
    else:
        words = list(vocabulary)
    for number, word in enumerate(words):
        if not isinstance(word, str):
            raise InputTypeError(
                f"{source} must hold strings. Received: {word!r:.80} of type {type(word).__name__} as the word of "
                f"id {number}. ELMo reads the letters of words: give the words themselves."
            )
    # Without what UTF-8 cannot encode (lone surrogates), as `batch_to_ids` has it.
    encoded = [word.encode("utf-8", "ignore") for word in words]
    if not encoded or encoded[0]:
        first = f"{words[0]!r:.80} as the first of {len(words)}" if words else "no words at all"
        raise InputValueError(
            f'{source} must begin with "" (in a file, with an empty line): id 0 is padding. Received: {first}. If id '
            '0 is a padding word of another name, replace it by ""; if ids begin at 1, put "" in front; '
            '`keras.layers.StringLookup` needs `mask_token=""`.'
        )
    if len(encoded) == 1:
        raise InputValueError(f"{source} must hold words beside padding. Received: only padding. Add the words.")
    if b"" in encoded[1:]:
        raise InputValueError(
            f'{source} must have "" for the id 0 only. Received: "" as the word of id {encoded.index(b"", 1)} too. '
            "Give every other id a word; a file has no empty line after the first."
        )
    return encoded


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ResourceNotFoundError(
            f"`vocabulary` must be the path of a file with a word a line. Received: {str(path)!r}, which is not a "
            "file. A relative path is relative to the working directory; a single word goes in a list."
        )
    try:
        text = path.read_text("utf-8-sig")  # some editors begin a file with an invisible mark
    except UnicodeDecodeError as error:
        raise InputValueError(f"The file of `vocabulary`, {path}, must be UTF-8. Received: {error}.") from None
    # Not `splitlines`: it also splits at characters that may be part of a word.
    return text.removesuffix("\n").split("\n")


def _is_iterable(values: Any) -> bool:
    return hasattr(values, "__iter__") and getattr(values, "ndim", 1) > 0  # NumPy's numbers have the method, too


def _words_of_layer(layer: Any) -> list[Any]:
    config = layer.get_config()
    if not hasattr(layer, "get_vocabulary") or config.get("output_mode") != "int":
        raise InputTypeError(
            "`vocabulary` must be a TextVectorization or StringLookup layer, or what else the docstring lists. "
            f"Received: the {type(layer).__name__} {layer.name!r} with output_mode={config.get('output_mode')!r}. Use "
            'a layer with output_mode="int".'
        )
    words = layer.get_vocabulary()
    if all(word in ("", config.get("oov_token", "[UNK]")) for word in words):
        raise InputValueError(
            f"`vocabulary` must be a layer that knows its words. Received: {layer.name!r}, whose vocabulary is "
            f"{words}. Call its `adapt` on the training text first."
        )
    return words
