"""The guide to pretraining tells the truth: its commands and its code run, in their order, on a tiny corpus."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import pytest
from heads.examples import TAGS, tagged

from bridge import Checkpoint
from bridge.cli.pretrain import pretrain
from bridge.cli.train import train
from bridge.text.readers import Example

GUIDE = (Path(__file__).parent.parent / "docs" / "pretraining.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
# What stands for hours of training, and for a download.
SMALLER = {
    "--size small": "--size tiny",
    "--config original": "--config demo",
    "--warm-up-steps 100": "--warm-up-steps 1",
}


def write_conll(path: Path, examples: list[Example]) -> None:
    sentences = [
        "".join(f"{token} {tag}\n" for token, tag in zip(example.tokens, example.target or (), strict=True))
        for example in examples
    ]
    path.write_text("\n".join(sentences), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the guide starts from, and the command in its own folder."""
    lines = [" ".join(example.tokens) for example in tagged(1500, seed=0)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for seed, name in enumerate(("train", "dev", "test"), start=1):
        write_conll(tmp_path / f"{name}.conll", tagged(20, seed))
    command = tmp_path / "bin" / "elmo-bridge"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bridge.cli.main "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return tmp_path


def run_commands(block: str, folder: Path) -> str:
    for ours, tiny in SMALLER.items():
        block = block.replace(ours, tiny)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)  # eight processes that import PyTorch or TensorFlow
def test_commands_and_code_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"}
    for command in SMALLER:
        assert command in GUIDE
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    printed = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "pretraining.md", "exec"), names)
        else:
            printed[block] = run_commands(block, folder)

    def output_of(begin: str) -> str:
        return next(text for block, text in printed.items() if block.startswith(begin))

    assert len((folder / "held_out.txt").read_text().splitlines()) == 15
    history = output_of("cut ").splitlines()
    assert history[0] == (
        "step,epoch,tokens_per_second,forward_perplexity,backward_perplexity,held_out_forward_perplexity,"
        "held_out_backward_perplexity"
    )
    assert len(history) == 2
    assert output_of("elmo-bridge inspect").startswith("config ")
    tags = output_of("elmo-bridge train").splitlines()[-1].split()  # the last command of the block predicts
    assert len(tags) == 6
    assert set(tags) <= set(TAGS)
    for run in ("my-elmo", "my-domain-elmo"):
        Checkpoint.open(folder / run / "elmo.ini")
    with h5py.File(folder / "my-domain-elmo" / "weights.hdf5") as file:
        assert file["char_embed"].shape == (261, 16)
    model = names["model"]
    assert isinstance(model, keras.Model)
    assert keras.models.load_model(folder / "my-tagger.keras").count_params() == model.count_params()


def test_options_it_names_exist() -> None:
    known = {"--help", "--logdir"}
    for callback in (pretrain, train):
        known |= {f"--{name.replace('_', '-')}" for name in callback.__annotations__}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE)) <= known
