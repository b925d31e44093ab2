"""Trains the embedded demo model and writes it: a small biLM, on unlabelled sentences of the demo's kind.

A language model of both directions, as in Peters et al. 2018, in AllenNLP's own modules. It takes three and a
half minutes. The same seed and the same versions give the same weights on the same kind of processor.
"""

import random
import tempfile
from pathlib import Path
from typing import Any

import make_demo_sentences
import numpy as np
import torch

from bridge import batch_to_ids
from bridge.encoder.elmo_import import import_elmo
from bridge.pretrain.export import bilm_weights, write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.resources.options import ElmoOptions

FOLDER = Path(__file__).resolve().parent.parent / "bridge" / "resources" / "demo"
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


def main() -> None:
    """Trains and writes the model."""
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


if __name__ == "__main__":
    main()
