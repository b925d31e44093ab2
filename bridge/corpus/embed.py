"""A corpus to a file of features, on one machine: `embed_corpus`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bridge.checks import check_boolean, check_choice, check_integer
from bridge.corpus.job import Job
from bridge.corpus.output import AnyCompression, Format, OutputForm, check_output, check_room, format_of, read_metadata
from bridge.corpus.progress import EmbedProgress
from bridge.corpus.runs import SETTINGS, check_finished
from bridge.corpus.segments import Segments
from bridge.corpus.sources import Corpus, InputFormat, OnError
from bridge.encoder.arguments import Layers, State
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.linear import Precision
from bridge.errors import InputValueError, OutputError
from bridge.features.metadata import Dtype, FeatureMetadata
from bridge.features.store import Layout
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.whole_file import FULL

if TYPE_CHECKING:  # imported first, PyTorch imports NumPy, and swallows a Ctrl-C meanwhile
    import torch


@dataclass(frozen=True)
class CorpusReport:
    """What `embed_corpus` did.

    Attributes:
        output: the file; of Ray the folder or its URL.
        metadata: what it says of itself, with all counts.
        resumed_sentences: how many of its sentences were there already.
        embedded_sentences, embedded_tokens: what was computed, in `seconds`.
        cache_hit_rate: the share of tokens whose vectors the encoder remembered, from 0 to 1.
        skipped: what was wrong with the first lines that were not UTF-8.
    """

    output: Path | str
    metadata: FeatureMetadata
    resumed_sentences: int = 0
    embedded_sentences: int = 0
    embedded_tokens: int = 0
    seconds: float = 0.0
    cache_hit_rate: float = 0.0
    skipped: tuple[str, ...] = ()


def embed_corpus(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None = None,
    *,
    layers: Layers = "all",
    format: Format | None = None,
    layout: Layout = "elmo",
    dtype: Dtype = "float32",
    compression: AnyCompression | None = None,
    state: State = "zero",
    precision: Precision = "float32",
    device: str | int | torch.device | None = None,
    batch_size: int | None = None,
    max_tokens: int = 4096,
    use_sentence_keys: bool = False,
    forget_sentences: bool = False,
    input_format: InputFormat | None = None,
    text_column: str | None = None,
    on_error: OnError = "raise",
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
    plain: bool = False,
) -> CorpusReport:
    """Embeds a corpus of any size into one file, which appears under its name when it is whole.

    Work in progress is in the folder `OUTPUT.partial`, in closed and synced segments of about 16,384 tokens each, from
    which the file is made at the end: the disk must have room for both. A killed run loses the segment that it was
    computing. Memory does not grow with the corpus.

    Args:
        inputs: a path, URL or glob, `"-"` for the standard input, or a list of these, see `Corpus`. A sentence a line,
            its tokens between whitespace. Sentences are numbered from 0 over all inputs, and an empty line is a
            sentence without tokens. Bytes of a token behind the 48th are not read by ELMo: such tokens are counted.
        output: the file to write.
        config: which weights, see `ElmoEncoder`.
        layers: `"all"`, `"top"` (the last LSTM layer) or `"average"` (the mean of all layers).
        format: `"hdf5"` or `"parquet"`; by default what the suffix of `output` says, else HDF5.
        layout: of HDF5: `"elmo"` is that of AllenNLP's `elmo` command, a dataset a sentence; `"packed"` is one array of
            all tokens, for training and for millions of sentences. See `FeatureStore`.
        dtype: of the stored numbers, `"float32"` or `"float16"`.
        compression: None; `"gzip"` or `"lzf"` of HDF5; `"snappy"`, `"gzip"`, `"zstd"` or `"lz4"` of Parquet.
        state, precision, device: see `ElmoEncoder`. `"carry"` keeps the order of the lines, `batch_size` of them at a
            time, and can't be resumed.
        batch_size: the most sentences that run together: 256, and 64 with `state="carry"`.
        max_tokens: the most tokens that run together, padding included; ignored with `state="carry"`.
        use_sentence_keys: name the datasets of the layout `"elmo"` by their sentences instead of their numbers. `/` is
            written `%2F`. Of equal sentences one is stored, of empty ones none.
        forget_sentences: leave the sentences out of the file.
        input_format, text_column, on_error: see `Corpus`.
        resume: go on with the run in `OUTPUT.partial` after its finished segments, with the same text and settings;
            begin where there is none, and do nothing where the output is finished, and has as many sentences.
        overwrite: replace an output, or a run that is not finished. The old file stays until the new one is whole.
        console: where to show progress, as a bar on a terminal; None for nowhere.
        plain: lines in the place of the bar.

    Returns:
        A `CorpusReport`.

    Raises:
        InputTypeError, InputValueError: an argument, or what a line holds; also where the text of a resumed run has
            changed.
        ResourceNotFoundError: an input is not there.
        OutputError: the output can't be written. Finished segments stay.
        FeatureStoreError: a segment or the output is damaged.
        ProcessError: another process writes this output.
        ConfigError, CheckpointError: see `Checkpoint.open`.

    Example:
        >>> embed_corpus("corpus.txt", "corpus.hdf5", "original", layers="top", resume=True)

    Reference:
        AllenNLP 0.9, `allennlp elmo`.
    """
    check_choice("layers", layers, Layers)
    check_choice("dtype", dtype, Dtype)
    check_choice("state", state, State)
    for name, value in (("resume", resume), ("overwrite", overwrite)):
        check_boolean(name, value)
    check_integer("max_tokens", max_tokens, minimum=1)
    if batch_size is not None:
        check_integer("batch_size", batch_size, minimum=1)
    if state == "carry" and (resume or use_sentence_keys):
        raise InputValueError(
            f'`{"resume" if resume else "use_sentence_keys"}` must be left out with `state="carry"`: every sentence '
            "goes on from one before it, so that a run can't be taken up, and equal sentences have different vectors. "
            'Received: both. Use `state="zero"` or "warm".'
        )
    output = Path(os.path.realpath(os.path.expanduser(output)))  # of a link, what it names
    form = OutputForm(format or format_of(output), layout, compression, use_sentence_keys, forget_sentences)
    corpus = Corpus(inputs, input_format=input_format, text_column=text_column, on_error=on_error)
    check_output(output, corpus.files, overwrite=overwrite)
    encoder = ElmoEncoder(config, state=state, precision=precision, device=device, max_tokens_per_pass=max_tokens)
    metadata = FeatureMetadata.of(encoder, layers=layers, dtype=dtype, tokenization=corpus.tokenization)
    settings = metadata.model_dump(include=SETTINGS) | {"batch_size": batch_size if state == "carry" else None}
    with closing(Segments(output)) as segments, _full_disk_told(segments):
        if output.exists() and not overwrite:
            return CorpusReport(output, _finished(output, form, segments, settings, corpus, resume))
        run = segments.begin(settings, resume=resume, overwrite=overwrite)
        job = Job(corpus, encoder, segments, metadata, batch_size, max_tokens)
        with EmbedProgress(corpus, console, plain) as progress:
            job.run(progress)
            check_room(segments, output)
            metadata = form.write(segments, output, metadata.with_counts(run=run))
        segments.remove()
    return CorpusReport(
        output,
        metadata,
        job.resumed_sentences,
        progress.sentences,
        progress.tokens,
        progress.seconds,
        progress.hit_rate,
        tuple(corpus.skipped),
    )


def _finished(
    output: Path, form: OutputForm, segments: Segments, settings: dict[str, object], corpus: Corpus, resume: bool
) -> FeatureMetadata:
    """The metadata of an output that is there, where that is what was asked for."""
    metadata = read_metadata(output, form) if resume else None
    check_finished(output, metadata, settings, corpus, resume=resume)
    assert metadata is not None  # checked
    if segments.run() not in (None, metadata.run):
        raise InputValueError(
            f"`output` must not exist while a run is to replace it. Received: {str(output)!r}, and a run of other "
            f"sentences in {segments.folder}. Add `overwrite` (--overwrite) to `resume`."
        )
    if segments.run() is not None:  # killed before it could
        segments.remove()
    return metadata


@contextmanager
def _full_disk_told(segments: Segments) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        remedy = "Free some room, and run the same command again."
        if len(segments):
            remedy = (
                f"The {len(segments)} finished segments in {segments.folder} stay: free some room, and run the same "
                "command with `resume` (--resume)."
            )
        raise OutputError(
            f"`output` must be on a disk with room, and within the limits of the process. Received: "
            f"{os.strerror(error.errno)}. {remedy}"
        ) from error
