"""Writes the demo's labelled sentences: short reviews, labelled by what they say.

Every review has one word of praise, one of blame and one negation; the negation cancels either the praise or the
blame. The same words occur under both labels, so that only their order tells them apart: a bag of words can do no
better than chance. The same seed gives the same file.
"""

import csv
import random
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "bridge" / "resources" / "demo" / "sentences.tsv"
SEED = 7
TRAIN, TEST = 800, 400

TOPICS = [
    *("soup", "bread", "fish", "cake", "coffee", "wine", "tea", "room", "bed", "view", "garden", "staff", "service"),
    *("music", "price", "book", "plot", "cast", "film", "ending", "game", "crew", "train", "seat", "driver"),
]
PRAISE = ["good", "great", "fresh", "lovely", "warm", "clever"]
BLAME = ["bad", "awful", "stale", "ugly", "cold", "silly"]
NEGATIONS = ["not", "never", "hardly", "not very"]
PLAIN = ["", "", "very", "really", "quite"]
OPENINGS = ["", "", "honestly ,", "to my surprise ,", "last week ,", "on our second visit ,"]
LINKS = [", and", ", while", "; also"]


def opinion(generator: random.Random, praise: bool, negated: bool) -> str:
    """Words of praise or blame, the negated ones from the opposite list."""
    adjectives = PRAISE if praise != negated else BLAME
    return f"{generator.choice(NEGATIONS if negated else PLAIN)} {generator.choice(adjectives)}"


def review(generator: random.Random, praise: bool) -> str:
    """A review of two things, one of them by a negation; no full stop. Tokens are separated by spaces."""
    opinions = [opinion(generator, praise, negated=True), opinion(generator, praise, negated=False)]
    generator.shuffle(opinions)
    first, second = generator.sample(TOPICS, 2)
    parts = (
        generator.choice(OPENINGS),
        f"the {first} was {opinions[0]} {generator.choice(LINKS)}",
        f"the {second} was {opinions[1]}",
    )
    return " ".join(" ".join(parts).split())


def main() -> None:
    """Writes the file."""
    generator = random.Random(SEED)
    reviews: dict[str, str] = {}
    while len(reviews) < TRAIN + TEST:
        label = generator.choice(("praise", "blame"))
        reviews[f"{review(generator, label == 'praise')} ."] = label
    TARGET.parent.mkdir(exist_ok=True)
    with open(TARGET, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
        writer.writerow(("split", "label", "sentence"))
        for number, (sentence, label) in enumerate(reviews.items()):
            writer.writerow(("train" if number < TRAIN else "test", label, sentence))
    print(f"{TARGET.name}: {TRAIN} training and {TEST} test sentences")


if __name__ == "__main__":
    main()
