"""A head trains from stored features exactly as it does through ElmoEmbedding: the same losses, the same mix."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import tokens

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder, ScalarMix, split_head
from bridge.features.batches import BatchPlan
from bridge.features.metadata import FeatureMetadata
from bridge.features.store import FeatureStore
from bridge.heads import classifier, tagger

EPOCHS = 3
NAMES = ["O", "X", "Y"]
BATCHES: dict[str, Any] = {"batch_size": 7, "shuffle": True, "seed": 4, "pool_tokens": 60}


def make_sentences() -> list[list[str]]:
    rng = np.random.default_rng(0)
    words = ["The", "cat", "sat", "on", "é", "日本語", "mat", ".", "x" * 60]
    return [rng.choice(words, size=length).tolist() for length in rng.integers(1, 9, size=40)]


SENTENCES = make_sentences()
TARGETS = np.random.default_rng(1).integers(0, 3, size=len(SENTENCES))
TAGS = [[len(token) % 3 for token in sentence] for sentence in SENTENCES]


@pytest.fixture(scope="module")
def store(small: ElmoConfig, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """The biLM layers of all sentences, computed in other batches than any that is trained on."""
    path = Path(tmp_path_factory.mktemp("stored")) / "features.hdf5"
    encoder = ElmoEncoder(small)
    metadata = FeatureMetadata.of(encoder, layers="all", dtype="float32", tokenization="tokens")
    with FeatureStore.create(path, metadata, layout="packed") as writer:
        for sentence, features in zip(SENTENCES, encoder.embed(SENTENCES), strict=True):
            writer.append(features, sentence)
    return FeatureStore.open(path, config=small)


class Losses(keras.callbacks.Callback):
    """The loss after every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        self.values.append(logs["loss"])


def token_batches(targets: Any) -> tf.data.Dataset:
    """What the store's dataset has, of tokens."""
    plan, epochs = BatchPlan([len(sentence) for sentence in SENTENCES], **BATCHES), itertools.count()

    def epoch() -> Iterator[tuple[Any, np.ndarray]]:
        for indices in plan.batches(next(epochs)):
            chosen = [targets[index] for index in indices]
            if isinstance(targets, list):
                chosen = tf.ragged.constant(chosen).to_tensor()
            yield tokens([SENTENCES[index] for index in indices]), np.asarray(chosen)

    timesteps = (None,) if isinstance(targets, list) else ()
    signature = (tf.TensorSpec((None, None), tf.string), tf.TensorSpec((None, *timesteps), tf.int64))
    dataset = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(plan)))


class Trained(NamedTuple):
    losses: list[float]
    weights: list[np.ndarray]
    scalar_parameters: np.ndarray
    gamma: float


def train(model: keras.Model, dataset: tf.data.Dataset, mix: ScalarMix, optimizer: Any) -> Trained:
    model.compile(optimizer, "sparse_categorical_crossentropy")
    losses = Losses()
    model.fit(dataset, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[losses])
    return Trained(losses.values, model.get_weights(), mix.scalar_parameters.numpy(), float(mix.gamma))


def ready_head(make: Any, config: ElmoConfig) -> tuple[keras.Model, keras.Model, list[ScalarMix]]:
    """A model, the head of another one with equal weights, and the mixes of both."""
    model, other = (make(config, labels=NAMES, dropout=0.0) for _ in range(2))
    other.set_weights(model.get_weights())
    return model, split_head(other), [each.get_layer("elmo").scalar_mix for each in (model, other)]


def own_head(config: ElmoConfig) -> tuple[keras.Model, keras.Model, list[ScalarMix]]:
    """Plain Keras: a head of one's own on features, and the same behind an ElmoEmbedding."""
    heads = [
        [
            ScalarMix(),
            keras.layers.Masking(),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
        for _ in range(2)
    ]
    elmo = ElmoEmbedding(config, output_mode="all", dropout=0.0)
    model = keras.Sequential([keras.Input((None,), dtype="string"), elmo, *heads[0]])
    head = keras.Sequential([keras.Input((None, 3, 12)), *heads[1]])
    head.set_weights([weight.numpy() for layer in heads[0] for weight in layer.weights])
    return model, head, [layers[0] for layers in heads]


OPTIMIZERS: dict[str, Any] = {
    "classifier": lambda: keras.optimizers.Adam(0.01),
    "tagger": lambda: keras.optimizers.Adam(0.01),
    "plain Keras": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_losses_and_mixes_are_the_same(kind: str, small: ElmoConfig, store: FeatureStore) -> None:
    keras.utils.set_random_seed(0)
    model, head, mixes = (
        own_head(small) if kind == "plain Keras" else ready_head(tagger if kind == "tagger" else classifier, small)
    )
    targets: Any = TAGS if kind == "tagger" else TARGETS
    through_elmo = train(model, token_batches(targets), mixes[0], OPTIMIZERS[kind]())
    from_store = train(head, store.dataset(targets, **BATCHES), mixes[1], OPTIMIZERS[kind]())
    assert len(from_store.losses) == EPOCHS * 6
    np.testing.assert_allclose(from_store.losses, through_elmo.losses, rtol=0, atol=1e-5)
    np.testing.assert_allclose(from_store.scalar_parameters, through_elmo.scalar_parameters, rtol=0, atol=1e-5)
    np.testing.assert_allclose(from_store.gamma, through_elmo.gamma, rtol=0, atol=1e-5)
    # They did learn.
    assert abs(from_store.gamma - 1) > 0.001
    assert abs(from_store.scalar_parameters).max() > 0.001


def test_a_classifiers_loss_does_not_depend_on_padding_or_company(small: ElmoConfig, store: FeatureStore) -> None:
    keras.utils.set_random_seed(1)
    head = split_head(classifier(small, labels=NAMES))
    head.compile(loss="sparse_categorical_crossentropy")
    alone = [head(store[index][None]).numpy()[0, target] for index, target in enumerate(TARGETS)]
    for batches in ({"batch_size": 40}, BATCHES):
        loss = head.evaluate(store.dataset(TARGETS, **batches), verbose=0)
        assert loss == pytest.approx(-np.log(alone).mean(), abs=1e-5)


def mean_loss(model: keras.Model, store: FeatureStore, indices: np.ndarray) -> float:
    """Over all tokens of some sentences, each predicted alone."""
    losses = []
    for index in indices:
        mask = np.ones((1, len(TAGS[index])), bool)
        inputs: Any = store[index][None]
        if len(model.inputs) > 1:
            inputs = {"elmo_features": inputs, "mask": mask}
        losses.extend(-np.log(model(inputs).numpy()[0][np.arange(mask.size), TAGS[index]]))
    return float(np.mean(losses))


def masked_model() -> keras.Model:
    """A model that takes its mask as an input: it does not reach the loss."""
    inputs = {
        "elmo_features": keras.Input((None, 3, 12), name="elmo_features"),
        "mask": keras.Input((None,), dtype="bool", name="mask"),
    }
    vectors = ScalarMix()(inputs["elmo_features"])
    pooled = keras.layers.GlobalAveragePooling1D(keepdims=True)(vectors, mask=inputs["mask"])
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(vectors + pooled))


def masking_head(config: ElmoConfig) -> keras.Model:
    """The head of a model of tags: its mask comes from ELMo's representations, and goes on to the loss."""
    layers = [keras.Input((None,), dtype="string"), ElmoEmbedding(config), keras.layers.Dense(3, activation="softmax")]
    return split_head(keras.Sequential(layers))


@pytest.mark.parametrize("kind", ["split head", "model with a mask"])
def test_the_loss_of_tags_leaves_padding_out(kind: str, small: ElmoConfig, store: FeatureStore) -> None:
    keras.utils.set_random_seed(2)
    has_mask = kind == "model with a mask"
    model = masked_model() if has_mask else masking_head(small)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight"))
    dataset = store.dataset(TAGS, **{**BATCHES, "bucket_by_length": False}, with_mask=has_mask)
    lengths = [len(tags) for tags in TAGS]
    plan = BatchPlan(lengths, **{**BATCHES, "bucket_by_length": False})
    for batch, indices in zip(dataset.take(2), plan.batches(0), strict=False):
        assert len({lengths[index] for index in indices}) > 1  # there is padding
        assert model.test_on_batch(*batch) == pytest.approx(mean_loss(model, store, indices), abs=1e-5)
