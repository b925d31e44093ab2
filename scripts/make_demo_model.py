"""Trains the embedded demo model and writes it: a small biLM, on unlabelled sentences of the demo's kind.

A language model of both directions, as in Peters et al. 2018, in AllenNLP's own modules. It takes three and a
half minutes. The same seed and the same versions give the same weights on the same kind of processor.

Beside it go the numbers that `elmo-bridge doctor` expects of it, computed by the tests' NumPy ELMo in float64, and
compared with AllenNLP's before they are written. `--reference` writes them alone, for the model that is there.
"""

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import make_demo_sentences
import numpy as np
import torch

from bridge import Checkpoint, ElmoConfig, ElmoEncoder, batch_to_ids
from bridge.encoder.elmo_import import import_elmo
from bridge.pretrain.export import bilm_weights, write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.resources.options import ElmoOptions

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "bridge" / "resources" / "demo"
PROJECTION_DIM = 64
OPTIONS = {
    "lstm": {
        "dim": 256,
        "projection_dim": PROJECTION_DIM,
        "n_layers": 2,
        "cell_clip": 3,
        "proj_clip": 3,
        "use_skip_connections": True,
    },
    "char_cnn": {
        "activation": "relu",
        "embedding": {"dim": 16},
        "filters": ((1, 16), (2, 32), (3, 64), (4, 64)),
        "n_highway": 1,
        "max_characters_per_token": 50,
        "n_characters": 262,
    },
}
SEED = 11
SENTENCES, HELD_OUT = 3000, 200
EPOCHS, BATCH_SIZE, LEARNING_RATE = 8, 32, 3e-3
# Known and unknown words, letters of two bytes, and lengths that need padding.
REFERENCE_SENTENCES = [["The", "soup", "was", "not", "bad", "."], ["\u00c4rzte", "loved", "it"], ["Hmm"]]

CONSEQUENCES = {
    True: ("we stayed", "we smiled", "we thanked them", "we told our friends", "everybody cheered"),
    False: ("we left", "we frowned", "we complained", "we walked out", "everybody sighed"),
}


def unlabelled_sentences() -> list[list[str]]:
    """Reviews and what came of them, of which no review is in the demo's labelled set.

    The label is never given, but to predict what came of it a language model must find out what a review says.
    """
    labelled = make_demo_sentences.TARGET.read_text(encoding="utf-8")
    generator = random.Random(SEED)
    sentences: list[list[str]] = []
    while len(sentences) < SENTENCES + HELD_OUT:
        praise = generator.random() < 0.5
        if generator.random() < 0.5:
            opinion = make_demo_sentences.opinion(generator, praise, negated=generator.random() < 0.5)
            review = f"the {generator.choice(make_demo_sentences.TOPICS)} was {opinion}"
        else:
            review = make_demo_sentences.review(generator, praise)
        if f"\t{review} .\n" not in labelled:
            sentences.append(f"{review} , so {generator.choice(CONSEQUENCES[praise])} .".split())
    return sentences


class LanguageModel(torch.nn.Module):
    """The biLM and one softmax over the words that both directions share."""

    def __init__(self, bilm: Any, vocabulary: dict[str, int]) -> None:
        super().__init__()
        self.bilm = bilm
        self.vocabulary = vocabulary
        self.softmax = torch.nn.Linear(PROJECTION_DIM, len(vocabulary))

    def forward(self, sentences: list[list[str]]) -> torch.Tensor:
        """Mean negative log likelihood of a word, over both directions."""
        self.bilm._elmo_lstm.reset_states()
        words = np.zeros((len(sentences), max(map(len, sentences)) + 2), dtype=np.int64)
        for row, sentence in enumerate(sentences):
            words[row, : len(sentence) + 2] = [self.vocabulary[word] for word in ("<S>", *sentence, "</S>")]
        targets = torch.from_numpy(words)
        top = self.bilm(torch.from_numpy(batch_to_ids(sentences)))["activations"][-1]
        forward, backward = top.chunk(2, dim=-1)
        losses = [
            torch.nn.functional.cross_entropy(
                self.softmax(predicting).flatten(0, 1), predicted.flatten(), ignore_index=0
            )
            for predicting, predicted in ((forward[:, :-1], targets[:, 1:]), (backward[:, 1:], targets[:, :-1]))
        ]
        return (losses[0] + losses[1]) / 2


def write_reference(config: ElmoConfig, path: Path) -> None:
    """Writes the model's layers of the reference sentences, and its fingerprint, as JSON."""
    sys.path.insert(0, str(ROOT / "tests"))
    import reference  # noqa: PLC0415

    options, weights = reference.read_checkpoint(config.options_file, config.weight_file)
    ids = reference.character_ids(REFERENCE_SENTENCES)
    activations, mask = reference.remove_boundaries(*reference.bilm(options, weights, ids)[:2])
    layers = [row[:length] for row, length in zip(activations, mask.sum(axis=1), strict=True)]
    allennlps = ElmoEncoder(config, engine="allennlp").embed(REFERENCE_SENTENCES)
    difference = max(np.abs(ours - theirs).max() for ours, theirs in zip(layers, allennlps, strict=True))
    if difference > 1e-5:
        raise SystemExit(f"the NumPy ELMo and AllenNLP's differ by {difference:.1e}")
    content = {
        "fingerprint": Checkpoint.open(config).fingerprint,
        "sentences": REFERENCE_SENTENCES,
        "layers": [np.round(values, 6).tolist() for values in layers],
    }
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {difference:.1e} from AllenNLP")


def main() -> None:
    """Trains and writes the model, and its reference."""
    if sys.argv[1:] == ["--reference"]:
        write_reference(ElmoConfig.load("demo"), FOLDER / "reference.json")
        return
    if sys.argv[1:]:
        raise SystemExit("usage: make_demo_model.py [--reference]")
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the same sums in the same order everywhere, and faster at this size
    sentences = unlabelled_sentences()
    held_out, sentences = sentences[:HELD_OUT], sentences[HELD_OUT:]
    words = sorted({word for sentence in sentences + held_out for word in sentence})
    vocabulary = {word: number for number, word in enumerate(["", "<S>", "</S>", *words])}

    options = ElmoOptions.model_validate(OPTIONS)
    with tempfile.TemporaryDirectory() as folder:
        untrained = write_checkpoint(Path(folder), options, initial_weights(options, SEED))
        bilm = import_elmo()._ElmoBiLm(untrained.options_file, untrained.weight_file, requires_grad=True)
    model = LanguageModel(bilm, vocabulary)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, EPOCHS * len(sentences) // BATCH_SIZE)
    for epoch in range(EPOCHS):
        random.Random(epoch).shuffle(sentences)
        for start in range(0, len(sentences), BATCH_SIZE):
            loss = model(sentences[start : start + BATCH_SIZE])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            print(f"epoch {epoch + 1}/{EPOCHS}  held-out perplexity {model(held_out).exp().item():.2f}", flush=True)

    written = write_checkpoint(FOLDER, options, bilm_weights(bilm))
    print(f"{Path(written.weight_file).name}: {Path(written.weight_file).stat().st_size / 1e6:.1f} MB")
    write_reference(written, FOLDER / "reference.json")


if __name__ == "__main__":
    main()
