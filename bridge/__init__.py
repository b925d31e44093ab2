"""AllenNLP's ELMo (PyTorch) as a layer of a Keras model (TensorFlow).

Data flows one way: text -> character ids -> biLM layers -> mix -> head. The names below are loaded when they are
first used, so that `import bridge` is quick and working on files or text needs neither PyTorch nor TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.corpus.column import embed_column
    from bridge.corpus.embed import embed_corpus
    from bridge.encoder.encoder import BiLmOutput, ElmoEncoder
    from bridge.features.metadata import FeatureMetadata
    from bridge.features.store import FeatureStore
    from bridge.layers.callbacks import ScalarMixLogger
    from bridge.layers.character_ids import CharacterIds
    from bridge.layers.embedding import ElmoEmbedding
    from bridge.layers.scalar_mix import ScalarMix
    from bridge.layers.split_head import split_head
    from bridge.layers.to_tensor import to_tensor
    from bridge.layers.vocabulary_character_ids import VocabularyCharacterIds
    from bridge.layers.whitespace_tokenizer import WhitespaceTokenizer
    from bridge.resources.checkpoint import Checkpoint
    from bridge.resources.config import ElmoConfig
    from bridge.text.characters import batch_to_ids

__version__ = "0.1.0"

__all__ = [
    "BiLmOutput",
    "BridgeError",
    "CharacterIds",
    "Checkpoint",
    "ElmoConfig",
    "ElmoEmbedding",
    "ElmoEncoder",
    "FeatureMetadata",
    "FeatureStore",
    "ScalarMix",
    "ScalarMixLogger",
    "VocabularyCharacterIds",
    "WhitespaceTokenizer",
    "batch_to_ids",
    "embed_column",
    "embed_corpus",
    "split_head",
    "to_tensor",
]

_MODULES = {
    "BiLmOutput": "bridge.encoder.encoder",
    "CharacterIds": "bridge.layers.character_ids",
    "Checkpoint": "bridge.resources.checkpoint",
    "ElmoConfig": "bridge.resources.config",
    "ElmoEmbedding": "bridge.layers.embedding",
    "ElmoEncoder": "bridge.encoder.encoder",
    "FeatureMetadata": "bridge.features.metadata",
    "FeatureStore": "bridge.features.store",
    "ScalarMix": "bridge.layers.scalar_mix",
    "ScalarMixLogger": "bridge.layers.callbacks",
    "VocabularyCharacterIds": "bridge.layers.vocabulary_character_ids",
    "WhitespaceTokenizer": "bridge.layers.whitespace_tokenizer",
    "batch_to_ids": "bridge.text.characters",
    "embed_column": "bridge.corpus.column",
    "embed_corpus": "bridge.corpus.embed",
    "split_head": "bridge.layers.split_head",
    "to_tensor": "bridge.layers.to_tensor",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
