"""scripts/benchmark.py: its figures fit together, its comparison finds errors, and wrong arguments are told."""

import importlib.metadata
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import reference
import torch
from torch.utils.flop_counter import FlopCounterMode

from bridge import BiLmOutput, Checkpoint, ElmoConfig, ElmoEncoder, batch_to_ids
from bridge.encoder.linear import Linear
from bridge.errors import InputValueError
from bridge.pretrain.sizes import Size

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
QUICK = ["--model", "tiny", "--turns", "2", "--warm-up", "4"]
ENCODERS = ["fused float32", "fused bfloat16", "allennlp float32"]


@pytest.fixture(autouse=True, scope="module")
def scripts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        import benchmarking.speed

        patch.setattr(benchmarking.speed, "MATRIX_SIZE", 64)  # the rate itself is not looked at, and takes seconds
        # Where it is installed, it would switch off TensorFlow's eager execution in this process.
        patch.setitem(sys.modules, "simple_elmo", None)
        yield


def run(*arguments: object) -> None:
    import benchmark

    benchmark.main([str(argument) for argument in arguments])


def figures(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def speed(tmp_path_factory: pytest.TempPathFactory, scripts: None) -> Any:
    folder = tmp_path_factory.mktemp("speed")
    sizes = ["--engine", "fused", "allennlp", "--precision", "float32", "bfloat16", "--batch-size", 3, 1]
    run(*QUICK, *sizes, "--json", folder / "a.json", "--plot", folder / "a.png")
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")
    return figures(folder / "a.json")


def test_contestants_are_all_there_and_allennlp_is_first(speed: Any) -> None:
    names = [(record["batch_size"], record["contestant"]) for record in speed["records"]]
    contestants = ["AllenNLP Elmo", *(f"ElmoEncoder {encoder}" for encoder in ENCODERS)]
    contestants += ["AllenNLP batch_to_ids", "bridge batch_to_ids"]
    assert names == [(size, name) for size in (3, 1) for name in contestants]


def test_figures_fit_together(speed: Any) -> None:
    first = {(record["batch_size"], record["what"]): record for record in reversed(speed["records"])}
    lstm = {"dim": 32, "projection_dim": 16, "n_layers": 2}
    assert lstm.items() <= speed["model"]["lstm"].items()
    for record in speed["records"]:
        reference = first[record["batch_size"], record["what"]]
        assert reference["contestant"].startswith("AllenNLP")
        assert record["tokens"] == reference["tokens"]  # the same text
        assert len(record["tokens"]) == 2
        assert min(record["tokens"]) >= 200
        for turn, tokens in enumerate(record["tokens"]):
            assert record["seconds"][turn] > 0
            assert record["tokens_per_second"][turn] == tokens / record["seconds"][turn]
            assert record["ratios"][turn] == reference["seconds"][turn] / record["seconds"][turn]
        for name, median in record["medians"].items():
            assert median == statistics.median(record[name])
        if record["what"] == "vectors":
            rate = speed["matrix_flops_per_second"][record["precision"]]
            flops = 2 * (2 * 16 * 4 * 32 + 32 * 16) * 2 * 2
            assert record["matrix_share"] == pytest.approx(record["medians"]["tokens_per_second"] * flops / rate)
    assert speed["settings"]["batch_size"] == [3, 1]
    assert speed["machine"]["threads"] == torch.get_num_threads()
    assert speed["machine"]["cpu_count"] == os.cpu_count()
    assert speed["versions"]["torch"] == importlib.metadata.version("torch")


def test_cache_hits_are_those_of_the_measured_turns(speed: Any) -> None:
    for record in speed["records"]:
        cache = record["cache"]
        assert (cache is not None) == ("fused" in record["contestant"])
        if cache:
            assert cache["hits"] + cache["misses"] == sum(record["tokens"])
            assert cache["hit_rate"] == cache["hits"] / sum(record["tokens"])
            assert 0 < cache["hit_rate"] < 1


def test_kernels_are_named(speed: Any) -> None:
    native = Linear(torch.ones(16, 16), None, "bfloat16", torch.device("cpu")).dtype == torch.bfloat16
    assert speed["kernels"]["bfloat16"].endswith("native" if native else "multiplied in float32")
    rates = speed["matrix_flops_per_second"]
    assert native or rates["bfloat16"] == rates["float32"]


@pytest.mark.slow
def test_no_cache(tmp_path: Path) -> None:
    run(*QUICK, "--token-cache-bytes", 0, "--json", tmp_path / "a.json")
    assert figures(tmp_path / "a.json")["records"][1]["cache"]["hits"] == 0


@pytest.mark.slow
def test_long_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*QUICK, "--sentence-length", 70, "--json", tmp_path / "a.json")
    for record in figures(tmp_path / "a.json")["records"]:
        assert (record["batch_size"], record["tokens"]) == (1, [210, 210])
    printed = capsys.readouterr().out
    assert "sentences of 70 tokens" in printed
    assert "simple_elmo is left out: it is not installed." in printed


@pytest.mark.slow
def test_keras(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*QUICK, "--keras", "--json", tmp_path / "a.json")
    names = [record["contestant"] for record in figures(tmp_path / "a.json")["records"]]
    assert names[:3] == ["AllenNLP Elmo", "ElmoEncoder fused float32", "ElmoEmbedding fused float32"]
    printed = capsys.readouterr().out
    assert printed.count("simple_elmo is left out: ") == 1
    assert "ElmoEmbedding fused float32" in printed


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_flops_are_those_that_allennlp_multiplies(tmp_path: Path, size: Size) -> None:
    from benchmarking.contestants import allennlp_elmo, random_checkpoint
    from benchmarking.speed import flops_per_token

    checkpoint = Checkpoint.open(random_checkpoint(tmp_path, size))
    lstm = allennlp_elmo(checkpoint)._elmo_lstm._elmo_lstm
    tokens = 7
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        lstm(torch.zeros(1, tokens, checkpoint.options.lstm.projection_dim), torch.ones(1, tokens, dtype=torch.bool))
    assert counter.get_total_flops() == tokens * flops_per_token(checkpoint.options.lstm)


def test_every_turn_is_new_text_and_the_same_for_all() -> None:
    from benchmarking.contestants import Contestant
    from benchmarking.speed import measure
    from benchmarking.text import Batch, take_turn, zipf_examples

    examples = zipf_examples(seed=1)
    turns = [take_turn(examples, 4, tokens=100) for _ in range(3)]
    read: list[tuple[str, Batch]] = []
    contestants = [
        Contestant(name, "vectors", lambda batch, name=name: read.append((name, batch)))  # type: ignore[misc]
        for name in ("a", "b")
    ]
    measure(contestants, turns, batch_size=4)
    wanted = [(name, batch) for batches in turns for name in ("a", "b") for batch in batches]
    assert [(name, id(batch)) for name, batch in read] == [(name, id(batch)) for name, batch in wanted]
    sentences = [sentence for batches in turns for batch in batches for sentence in batch.sentences]
    assert sentences == [example.tokens for example in islice(zipf_examples(seed=1), len(sentences))]


@pytest.mark.slow
def test_zipf_text_is_as_its_comment_says() -> None:
    from benchmarking.text import zipf_examples

    sentences = [example.tokens for example in islice(zipf_examples(seed=0), 5100)]
    assert 19 < np.mean([len(sentence) for sentence in sentences]) < 21
    tokens = [token for sentence in sentences for token in sentence]
    assert 2650 < len(set(tokens[:10_000])) < 2950
    assert 14_300 < len(set(tokens[:100_000])) < 14_900
    assert sentences[:9] == [example.tokens for example in islice(zipf_examples(seed=0), 9)]
    assert sentences[:9] != [example.tokens for example in islice(zipf_examples(seed=1), 9)]


def write_text(folder: Path, sentences: int) -> Path:
    path = folder / "text.txt"
    path.write_text("".join(f"sentence {number} {'word ' * 200}\n" for number in range(sentences)), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_file_is_read_once(tmp_path: Path) -> None:
    arguments = [*QUICK, "--batch-size", 2]  # 4 sentences of warm-up, 2 of the shape, 2 turns of 2
    run(*arguments, "--text", write_text(tmp_path, 10), "--json", tmp_path / "a.json")
    assert figures(tmp_path / "a.json")["records"][0]["tokens"] == [404, 404]
    with pytest.raises(InputValueError, match=r"`--text` must have text for .* every turn"):
        run(*arguments, "--text", write_text(tmp_path, 9))


def agreements(path: Path, *arguments: object) -> dict[tuple[str, int], Any]:
    run("--agreement", *arguments, "--json", path)
    return {(record["contestant"], record["layer"]): record for record in figures(path)["records"]}


def test_agreement_is_measured(tmp_path: Path, small: ElmoConfig) -> None:
    ini = tmp_path / "own.ini"
    ini.write_text(f"[ELMO]\noptions_file = {small.options_file}\nweight_file = {small.weight_file}\n")
    text = tmp_path / "text.txt"
    sentences = [["a", "b", "c"], ["the", "cat"], ["Ünïcödé"], ["d"] * 40]
    text.write_text("\n".join(map(" ".join, sentences)), encoding="utf-8")
    precisions = ["--engine", "fused", "allennlp", "--precision", "float32", "bfloat16"]
    found = agreements(tmp_path / "a.json", "--config", ini, "--text", text, "--batch-size", 3, *precisions)
    assert list(found) == [(encoder, layer) for encoder in ENCODERS for layer in range(3)]
    for (name, layer), record in found.items():
        if name == "fused bfloat16" and layer > 0:
            assert record["max_difference"] > 1e-4
            assert 0.9 < record["worst_cosine"] < 1 - 1e-8
        else:
            assert record["max_difference"] < 1e-5
            assert record["worst_cosine"] == pytest.approx(1, abs=1e-9)
    # Against an independent ELMo: what is reported is what bfloat16 differs by.
    encoder = ElmoEncoder(small, precision="bfloat16")
    options, weights = reference.read_checkpoint(small.options_file, small.weight_file)
    for layer in (1, 2):
        differences, cosines = [], []
        for part in (sentences[:3], sentences[3:]):
            ids = batch_to_ids(part)
            own, mask = encoder(ids)
            wanted, _ = reference.remove_boundaries(*reference.bilm(options, weights, ids)[:2])
            a, b = (np.asarray(values, dtype=np.float64)[mask.numpy()][:, layer] for values in (own, wanted))
            differences.append(np.abs(a - b).max())
            cosines.append(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
        record = found["fused bfloat16", layer]
        assert record["max_difference"] == pytest.approx(max(differences), abs=1e-5)
        assert record["worst_cosine"] == pytest.approx(min(cosines), abs=1e-6)


@pytest.mark.parametrize(("factor", "cosine"), [(-1.0, -1), (np.nan, -1), (2.0, None)])
def test_agreement_finds_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, cosine: float | None
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a b c\n\nthe [/odd] cat\na b\n", encoding="utf-8")
    odd = batch_to_ids([["[/odd]"]])[0, 0]
    call = ElmoEncoder.__call__

    def wrong(self: ElmoEncoder, char_ids: np.ndarray, mask: object = None) -> BiLmOutput:
        output = call(self, char_ids, mask)
        output.activations[:, :, 1][torch.from_numpy((char_ids == odd).all(axis=2))] *= factor
        return output

    monkeypatch.setattr(ElmoEncoder, "__call__", wrong)
    found = agreements(tmp_path / "a.json", "--model", "tiny", "--text", text)
    assert found["fused float32", 0]["max_difference"] < 1e-5
    assert not found["fused float32", 1]["max_difference"] < 1e-3
    if cosine is not None:
        record = found["fused float32", 1]
        assert record["worst_cosine"] == pytest.approx(cosine)
        assert (record["worst_token"], record["worst_place"]) == ("[/odd]", "text.txt, line 3, token 2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--turns", "0"], "argument --turns: must be an integer of at least 1. Received: '0'."),
        (["--batch-size", "1.5"], "must be an integer of at least 1. Received: '1.5'."),
        (["--seed", "-1"], "--seed"),
        (["--model", "big"], "invalid choice: 'big'"),
        (["--engine", "auto"], "invalid choice: 'auto'"),
        (["--precision", "float64"], "invalid choice: 'float64'"),
        (["--model", "tiny", "--config", "demo"], "not allowed with"),
        (["--agreement", "--memory", "5"], "not allowed with"),
        (["--agreement", "--turns", "5"], "--turns means nothing with --agreement: leave it out."),
        (["--memory", "5", "--json", "a.json"], "--json means nothing with --memory"),
        (["--sentences", "5"], "--sentences means nothing without --agreement or --peak-memory"),
        (["--peak-memory", "--keras"], "--keras means nothing with --peak-memory"),
        (["--agreement", "--batch-size", "1", "2"], "--batch-size must be one number"),
        (["--sentence-length", "9", "--batch-size", "4"], "--batch-size must be 1 with --sentence-length"),
        (["--engine", "allennlp", "--precision", "bfloat16"], "--precision must include float32"),
        (["--keras", "--token-cache-bytes", "0"], "--token-cache-bytes must be left out with --keras"),
        (["--plot", "a.pdf"], "--plot must be a .png file. Received: a.pdf."),
        (["--json", "no/such/a.json"], "must be a file in a folder that is there. Received: 'no/such/a.json'."),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run(*arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def in_a_fresh_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_peak_memory(tmp_path: Path) -> None:
    process = in_a_fresh_process(
        "--model", "tiny", "--peak-memory", "--sentences", 40, "--json", tmp_path / "a.json", "--batch-size", 40
    )
    assert process.returncode == 0, process.stderr
    records = figures(tmp_path / "a.json")["records"]
    assert [record["contestant"] for record in records] == ["AllenNLP Elmo", "ElmoEncoder fused float32"]
    for record in records:
        assert 50 < record["loaded_mib"] < record["peak_mib"] < 2000


@pytest.mark.slow
def test_memory() -> None:
    process = in_a_fresh_process("--model", "tiny", "--memory", 20)
    assert process.returncode == 0, process.stderr
    assert "MiB after 20 calls" in process.stdout
    assert process.stdout.count("train_on_batch") == 4


@pytest.mark.slow
def test_a_missing_file_is_one_line() -> None:
    process = in_a_fresh_process("--model", "tiny", "--text", "missing.txt")
    assert process.returncode == 1
    assert process.stderr.startswith("error: The file to read must exist")
    assert process.stderr.count("\n") == 1


@pytest.mark.slow
def test_tensorflow_is_imported_for_keras_alone(tmp_path: Path) -> None:
    program = (
        "import sys, benchmark\n"
        f"benchmark.main({[*QUICK, '--plot', str(tmp_path / 'a.png')]!r})\n"
        f"benchmark.main(['--model', 'tiny', '--agreement', '--sentences', '2'])\n"
        "assert 'torch' in sys.modules\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=SCRIPTS)


@pytest.mark.parametrize("content", ["", "\n \n"])
@pytest.mark.parametrize("mode", [["--agreement"], ["--turns", "1"]])
def test_a_file_without_sentences_is_named(content: str, mode: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(content)
    with pytest.raises(InputValueError, match=r"empty\.txt, which has no sentence"):
        run("--model", "tiny", *mode, "--text", tmp_path / "empty.txt")


def test_a_corpus_is_embedded_as_allennlp_embedded_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmarking.corpus

    files = {}
    from bridge.corpus.embed import embed_corpus as real

    def keep(corpus: Path, output: Path, *arguments: Any, **keywords: Any) -> Any:
        report = real(corpus, output, *arguments, **keywords)
        for path in (corpus, corpus.with_name("allennlp.hdf5"), output):
            files[path.name] = path.read_bytes()
        return report

    monkeypatch.setattr(benchmarking.corpus, "embed_corpus", keep)
    # One batch: AllenNLP's state goes on from one to the next.
    run("--model", "tiny", "--corpus", 30, "--json", tmp_path / "corpus.json")
    records = figures(tmp_path / "corpus.json")["records"]
    assert [record["contestant"] for record in records] == ["AllenNLP 0.9's loop", "embed_corpus float32"]
    lines = files["corpus.txt"].decode().splitlines()
    lengths = [len(line.split()) for line in lines]
    assert len(lines) == 30
    assert min(lengths) in range(1, 10)
    assert max(lengths) in range(30, 151)
    assert {record["tokens"] for record in records} == {sum(lengths)}
    for record in records:
        assert record["tokens_per_second"] == pytest.approx(record["tokens"] / record["seconds"])
        assert record["ratio"] == pytest.approx(records[0]["seconds"] / record["seconds"])
    with h5py.File(io.BytesIO(files["allennlp.hdf5"])) as theirs, h5py.File(io.BytesIO(files["float32.hdf5"])) as ours:
        for number, length in enumerate(lengths):
            assert theirs[str(number)].shape == (3, length, 32)
            np.testing.assert_allclose(ours[str(number)][()], theirs[str(number)][()], rtol=0, atol=1e-5)
