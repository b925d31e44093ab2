"""A corpus to a folder of Parquet files, on a Ray cluster: `embed_corpus_on_ray`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from bridge.checks import check_boolean, check_choice, check_integer
from bridge.corpus.batching import MOST_ROWS
from bridge.corpus.embed import CorpusReport
from bridge.corpus.progress import EmbedProgress
from bridge.corpus.ray_pool import RayPool, connected
from bridge.corpus.ray_worker import RayJob
from bridge.corpus.runs import SETTINGS, check_finished
from bridge.corpus.shards import Shards
from bridge.corpus.sources import Corpus, InputFormat, OnError
from bridge.corpus.window_reader import WindowReader
from bridge.encoder.arguments import Layers
from bridge.encoder.linear import Precision
from bridge.encoder.shared_weights import SharedWeights
from bridge.errors import InputValueError
from bridge.features.metadata import Dtype, FeatureMetadata
from bridge.features.parquet import ParquetCompression
from bridge.optional import require
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig

if TYPE_CHECKING:  # imported first, PyTorch imports NumPy, and swallows a Ctrl-C meanwhile
    import torch

State = Literal["zero", "warm"]


def embed_corpus_on_ray(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None = None,
    *,
    layers: Layers = "all",
    dtype: Dtype = "float32",
    compression: ParquetCompression | None = None,
    state: State = "zero",
    precision: Precision = "float32",
    device: str | int | torch.device | None = None,
    batch_size: int | None = None,
    max_tokens: int = 4096,
    input_format: InputFormat | None = None,
    text_column: str | None = None,
    on_error: OnError = "raise",
    num_actors: int | None = None,
    cpus_per_actor: int = 1,
    ray_address: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
    plain: bool = False,
) -> CorpusReport:
    """Embeds a corpus of any size into a folder of Parquet files, on all machines of a Ray cluster.

    This process reads the text and hands out windows of about 16,384 tokens. Each worker, a Ray actor, holds an
    encoder; the weights are in Ray's object store, one copy a machine. A worker writes each window itself, as one
    file: features never travel. When a worker dies, another one takes its place and its window, and nothing else is
    computed again. Vectors are those of `embed_corpus` to 1e-5.

    Sentences are numbered from 0 over all inputs, in the column `sentence_id`; the numbers rise from file to file and
    inside each.

    Args:
        inputs, config, layers, dtype, precision, max_tokens: see `embed_corpus`. Inputs are read here, and not by
            workers: a path is one of this machine.
        output: a path, or the URL of a folder in object storage, such as `s3://bucket/features`; see `Shards`. The
            machines of a cluster must all see it. A local folder appears under its name when it is whole.
        compression: of Parquet: None, `"snappy"`, `"gzip"`, `"zstd"` or `"lz4"`.
        state: see `ElmoEncoder`. Not `"carry"`: the order in which windows are computed is not that of the text.
        device: `"cuda"` gives each worker a GPU, which Ray chooses; by default they compute on the CPU.
        batch_size: the most sentences that run together: 256.
        input_format, text_column, on_error: see `Corpus`.
        num_actors: how many workers; by default as many as the cluster has room for. Where it has less room, those
            that have a place begin.
        cpus_per_actor: cores, and threads, of a worker.
        ray_address: of a cluster; by default that of `RAY_ADDRESS` or of this machine, else a new one is made of this
            machine and ends with the call. Where Ray is connected already, that connection is used.
        resume: go on with a run that was interrupted, with the same text and settings: parts that are there are
            kept. Begin where there is none, and do nothing where the output is finished.
        overwrite: replace an output, or a run that is not finished. A local folder stays until the new one is whole.
        console, plain: see `embed_corpus`.

    Returns:
        A `CorpusReport`, whose `output` is a URL where it was one.

    Raises:
        MissingDependencyError: the extra `ray` is not installed.
        InputTypeError, InputValueError: an argument, or what a line holds; also where the text of a resumed run has
            changed.
        ResourceNotFoundError: an input is not there.
        OutputError: the output can't be written. Finished parts stay.
        FeatureStoreError: what says how the output was made is damaged.
        ProcessError: another process writes this output, or one window kills every worker.
        ConfigError, CheckpointError: see `Checkpoint.open`.

    Example:
        >>> embed_corpus_on_ray("corpus.txt", "s3://bucket/features", "original", ray_address="auto", resume=True)
    """
    check_choice("layers", layers, Layers)
    check_choice("dtype", dtype, Dtype)
    check_choice("precision", precision, Precision)
    _check_state(state)
    if compression is not None:
        check_choice("compression", compression, ParquetCompression)
    for name, value, minimum in (
        ("batch_size", MOST_ROWS if batch_size is None else batch_size, 1),
        ("max_tokens", max_tokens, 1),
        ("num_actors", 1 if num_actors is None else num_actors, 1),
        ("cpus_per_actor", cpus_per_actor, 1),
    ):
        check_integer(name, value, minimum)
    for name, flag in (("resume", resume), ("overwrite", overwrite)):
        check_boolean(name, flag)
    on_gpu = _on_gpu(device)
    require("ray", "ray")
    require("pyarrow", "ray")
    corpus = Corpus(inputs, input_format=input_format, text_column=text_column, on_error=on_error)
    with closing(Shards(output)) as shards:
        checkpoint = config if isinstance(config, Checkpoint) else Checkpoint.open(config)
        encoder = SimpleNamespace(  # what the metadata need to know of it
            checkpoint=checkpoint,
            state=state,
            precision=precision,
            num_layers=checkpoint.num_layers,
            output_dim=checkpoint.output_dim,
        )
        metadata = FeatureMetadata.of(encoder, layers=layers, dtype=dtype, tokenization=corpus.tokenization)
        settings = metadata.model_dump(include=SETTINGS)
        finished = shards.finished()
        if finished is not None and not overwrite:
            check_finished(shards.output, finished, settings, corpus, resume=resume)
            return CorpusReport(shards.output, finished)
        metadata = metadata.with_counts(run=shards.begin(settings, resume=resume, overwrite=overwrite))
        job = RayJob(
            shards.storage,
            metadata,
            compression,
            "cuda" if on_gpu else "cpu",
            batch_size or MOST_ROWS,
            max_tokens,
            cpus_per_actor,
        )
        reader = WindowReader(corpus, shards)
        with EmbedProgress(reader, console, plain) as progress:
            windows = reader.windows(progress)
            first = next(windows, None)
            if first is not None:
                with connected(ray_address), closing(RayPool(job, num_actors, console)) as pool:
                    pool.load(SharedWeights.of(checkpoint))
                    hits = tokens = 0
                    for window, embedded in pool.run(chain([first], windows)):
                        hits, tokens = hits + embedded.hits, tokens + window.tokens
                        reader.done(window, progress, hits / max(1, tokens))
        metadata = metadata.with_counts(**reader.counts, skipped_lines=corpus.skipped_lines)
        shards.finish(metadata, reader.firsts)
    return CorpusReport(
        shards.output,
        metadata,
        reader.resumed_sentences,
        progress.sentences,
        progress.tokens,
        progress.seconds,
        progress.hit_rate,
        tuple(corpus.skipped),
    )


def _check_state(state: object) -> None:
    if state == "carry":
        raise InputValueError(
            '`state` must be "zero" or "warm" on Ray: with "carry" every sentence goes on from one before it, and '
            'windows are computed in any order. Received: "carry". Use `embed_corpus` (--runner local).'
        )
    check_choice("state", state, State)


def _on_gpu(device: object) -> bool:
    kind = "cpu" if device is None else str(device).partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise InputValueError(
            f'`device` must be "cpu" or "cuda" on Ray, which chooses the GPU of each worker. Received: {device!r}.'
        )
    return kind == "cuda"
