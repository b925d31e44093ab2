"""Fuzzing of the choice of weights: `ElmoConfig`, INI files, `options.json` and `Checkpoint`."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fuzz.fuzzing import SLOW, Entry, fuzz, parametrized
from fuzz.mutations import mutated_bytes, mutated_json
from fuzz.values import anything, scalars, tokens
from hypothesis import strategies as st
from models import options_dict

from bridge import Checkpoint, ElmoConfig
from bridge.resources.options import ElmoOptions, read_options

# A URL would be fetched: nothing here may ask a network.
paths = (scalars | st.sampled_from(["demo", "small ", "Demo", "~", "~nobody/x", "x!y", "!", ".", "a" * 300])).filter(
    lambda path: not isinstance(path, str) or ":/" not in path
)
digests = st.none() | scalars | st.sampled_from(["0" * 64, "g" * 64, "0" * 63, "\u0660" * 64])


def load_ini(text: str, encoding: str) -> ElmoConfig:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "elmo.ini"
        path.write_bytes(text.encode(encoding, "surrogatepass" if encoding != "latin-1" else "replace"))
        return ElmoConfig.load(path)


ini_lines = st.sampled_from([
    "[ELMO]", "[elmo]", "[ELMO", "[]", "[DEFAULT]", "[ELMO] ; note", "options_file = o.json", "weight_file: w.hdf5",
    "options_file", "weight_file =", " weight_file = x", "options_sha256 = " + "a" * 64, "weight_sha256 = 0",
    "options_file = ${HOME}/o", "options_file = ${}", "weight_file = ${NOT_SET}", "weight_file = %(x)s", "= 1", "# x",
    "OPTIONS_FILE = ~/o", "[ELMO]\x0c", "\u2028weight_file = a", "weight_file = \0", "", "   ", "\ufeff[ELMO]",
    "weight_file = a\r", "options_file == x", "options_file : = :", "[ELMO]]", "key = value",
]) | tokens  # fmt: skip


def read_mutated_options(seed: int, as_bytes: bool) -> ElmoOptions:
    rng, text = random.Random(seed), json.dumps(options_dict())
    if as_bytes:
        data = mutated_bytes(rng, text.encode())[0]
    else:
        data = mutated_json(rng, text)[0].encode("utf-8", "surrogatepass")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "options.json").write_bytes(data)
        return read_options(Path(folder) / "options.json", "the mutant")


def check_config(made: ElmoConfig, **_: Any) -> None:
    assert isinstance(made.options_file, str)
    assert isinstance(made.weight_file, str)
    assert made.options_file
    assert made.weight_file
    hash(made)


def check_options(options: ElmoOptions, **_: Any) -> None:
    assert options.num_layers == options.lstm.n_layers + 1 >= 2
    assert options.output_dim == 2 * options.lstm.projection_dim > 0
    assert ElmoOptions.model_validate_json(options.model_dump_json()) == options


TABLE = [
    Entry(
        "ElmoConfig",
        st.fixed_dictionaries(
            {"options_file": paths, "weight_file": paths},
            optional={"options_sha256": digests, "weight_sha256": digests},
        ),
        ElmoConfig,
        check_config,
    ),
    Entry(
        "ElmoConfig.load",
        st.fixed_dictionaries({}, optional={"config": paths | anything, "options_file": paths, "weight_file": paths}),
        ElmoConfig.load,
        check_config,
    ),
    Entry(
        "INI file",
        st.fixed_dictionaries(
            {
                "text": st.builds(
                    lambda first, lines: "\n".join([*first, *lines]),
                    st.sampled_from([[], ["[ELMO]"], ["[ELMO]", "options_file = o", "weight_file = w"]]),
                    st.lists(ini_lines, max_size=7),
                ),
                "encoding": st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "latin-1"]),
            }
        ),
        load_ini,
        check_config,
        examples=60,
    ),
    Entry(
        "options.json",
        st.fixed_dictionaries({"seed": st.integers(0, 10**6), "as_bytes": st.booleans()}),
        read_mutated_options,
        check_options,
        examples=60,
    ),
    Entry(
        "Checkpoint.open",
        st.fixed_dictionaries({"config": st.just("demo") | paths | anything}, optional={"download": st.just(False)}),
        Checkpoint.open,
        lambda checkpoint, **_: check_config(checkpoint.config),
    ),
]


@parametrized(TABLE)
def test_resources(entry: Entry) -> None:
    fuzz(entry)


@pytest.mark.slow
@parametrized(TABLE)
def test_resources_for_long(entry: Entry) -> None:
    counts = fuzz(entry, SLOW)
    assert counts["refused"]
    assert counts["accepted"]
