"""What a feature file says about itself: `FeatureMetadata`."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

import pydantic

from bridge import __version__
from bridge.errors import FeatureStoreError
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig

Layers = Literal["all", "top", "average"]
Dtype = Literal["float32", "float16"]
Count = Annotated[int, pydantic.Field(ge=0)]

FINGERPRINT = re.compile("[0-9a-f]{64}")
# Beside the bridge's own: vectors may differ in their last digits between versions of these.
PACKAGES = ("allennlp", "numpy", "torch")


class FeatureMetadata(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Which weights made the features of a file, with which settings, and how many there are.

    Stored as JSON in every file: HDF5 has it in the root attribute `elmo_bridge`, Parquet under that key of its schema.

    Attributes:
        format: of the file, 1.
        fingerprint: `Checkpoint.fingerprint` of the weights: 64 hexadecimal digits.
        state, precision: of the `ElmoEncoder`.
        layers: `"all"`, or the one layer that is stored: the `"top"` one, or the `"average"` of all.
        dtype: of the stored features.
        tokenization: `"whitespace"` where lines were split by `str.split()`, `"tokens"` where tokens were given.
        num_layers, output_dim: of the model, whatever `layers` is.
        sentences: how many were appended, the empty ones among them.
        tokens: how many all sentences have.
        empty_sentences: sentences without tokens.
        long_tokens: tokens of more than 48 UTF-8 bytes, of which the model has seen the first 48.
        skipped_lines: lines that were not UTF-8; each is an empty sentence.
        run: id of the run that wrote the file.
        versions: of the packages that did, by name.
    """

    format: Literal[1] = 1
    fingerprint: Annotated[str, pydantic.Field(pattern=f"^{FINGERPRINT.pattern}$")]
    state: Literal["zero", "warm", "carry"]
    precision: Literal["float32", "bfloat16", "float16"]
    layers: Layers
    dtype: Dtype
    tokenization: Literal["whitespace", "tokens"]
    num_layers: Annotated[int, pydantic.Field(ge=1)]
    output_dim: Annotated[int, pydantic.Field(ge=1)]
    sentences: Count = 0
    tokens: Count = 0
    empty_sentences: Count = 0
    long_tokens: Count = 0
    skipped_lines: Count = 0
    run: str = ""
    versions: dict[str, str] = {}

    @classmethod
    def of(
        cls,
        encoder: Any,
        *,
        layers: Layers,
        dtype: Dtype,
        tokenization: Literal["whitespace", "tokens"] = "whitespace",
        **counts: Any,
    ) -> FeatureMetadata:
        """The metadata of features that an encoder computes.

        Args:
            encoder: an `ElmoEncoder`.
            layers, dtype, tokenization: see the attributes.
            **counts: other attributes that are known already, such as `run`.
        """
        return cls(
            fingerprint=encoder.checkpoint.fingerprint,
            state=encoder.state,
            precision=encoder.precision,
            layers=layers,
            dtype=dtype,
            tokenization=tokenization,
            num_layers=encoder.num_layers,
            output_dim=encoder.output_dim,
            **{"versions": _versions(), **counts},
        )

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of a token's features: `(num_layers, output_dim)` with all layers, else `(output_dim,)`."""
        return (self.num_layers, self.output_dim) if self.layers == "all" else (self.output_dim,)

    def with_counts(self, **counts: Any) -> FeatureMetadata:
        """The same with other values of some attributes."""
        return self.model_validate(self.model_dump() | counts)

    def to_json(self) -> str:
        """As JSON, for a file."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes, described: str) -> FeatureMetadata:
        """From what a file has.

        Args:
            text: JSON.
            described: how messages call the file.

        Raises:
            FeatureStoreError: it is not such JSON, or a later version made it.
        """
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            faults = "; ".join(f"`{'.'.join(map(str, fault['loc']))}`: {fault['msg']}" for fault in error.errors())
            raise FeatureStoreError(
                f"The metadata of a feature file must be what this version of elmo-keras-bridge writes. Received: "
                f"{described}, in which {faults:.500}. Use the version that made the file, or make it again."
            ) from error

    def check_model(self, model: str | os.PathLike[str] | ElmoConfig | Checkpoint, described: str) -> None:
        """Checks that the features are those of a model.

        Args:
            model: a `Checkpoint`, its fingerprint, or what `ElmoConfig.load` accepts.
            described: how messages call the file.

        Raises:
            FeatureStoreError: they are those of another one.
        """
        if isinstance(model, str) and FINGERPRINT.fullmatch(model):
            wanted = model
        else:
            wanted = (model if isinstance(model, Checkpoint) else Checkpoint.open(model)).fingerprint
        if wanted != self.fingerprint:
            raise FeatureStoreError(
                f"Stored features must be those of the model that they are used with. Received: {described}, made by "
                f"the weights with the fingerprint {self.fingerprint}, where the model's is {wanted}. Give the config "
                "that the features were made with, or make them again with this one."
            )


def _versions() -> dict[str, str]:
    versions = {"elmo-keras-bridge": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # numpy alone is needed here
            continue
    return versions
