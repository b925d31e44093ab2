"""`import_elmo` gets AllenNLP's ELMo from current Python and torch, and leaves no trace."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.packages import INSTALL_COMMAND

# What AllenNLP imports on the way to its ELMo, and a user may have in any version.
PACKAGES = [
    *("_jsonnet", "base58", "dill", "huggingface_hub", "lmdb", "more_itertools", "torchvision", "tqdm"),
    *("cached_path", "cached_path.cache_file", "cached_path.common", "cached_path.file_lock", "cached_path.meta"),
    *("fairscale", "fairscale.nn", "fairscale.nn.checkpoint", "fairscale.nn.misc", "fairscale.nn.wrap"),
    *("fairscale.optim", "fairscale.optim.grad_scaler"),
    *("spacy", "spacy.cli", "spacy.cli.download", "spacy.language", "spacy.tokens"),
    *("transformers", "transformers.data", "transformers.data.data_collator", "transformers.models"),
    *("transformers.models.bert", "transformers.models.bert.modeling_bert"),
]

# Stands for a real package: has every name, and notes which were asked for.
WORKING = """
used = []
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    used.append(name)
    return type(name, (), {"__init__": lambda self, *args, **kwargs: None})
"""
BROKEN = "raise ImportError('the real ' + __name__ + ' was imported')"

# Every program begins with this. `check_no_trace()` compares with the time of the last `remember()`.
PRELUDE = """
import logging, sys, threading, time, warnings
from bridge.encoder import elmo_import
from bridge.encoder.elmo_import import import_elmo

def state():
    return sys.meta_path[:], sys.path[:], logging.getLoggerClass(), warnings.filters[:], threading.enumerate()

def remember():
    global before, modules
    before, modules = state(), dict(sys.modules)

def check_no_trace():
    assert state() == before
    check_modules()

def check_modules():
    assert all(sys.modules.get(name) is module for name, module in modules.items())
    assert not [name for name in sys.modules.keys() - modules if name.partition(".")[0] == "allennlp"]
    # Nobody kept a stand-in, or a class of one.
    for name, module in list(sys.modules.items()):
        assert type(module) is not elmo_import._StandIn, name
        for value in list(vars(module).values()) if module and module is not elmo_import else ():
            assert type(value) is not elmo_import._StandIn, name
            assert not (type(value) is type and value.__module__ == "bridge.encoder.elmo_import"), name

remember()
"""

# A small AllenNLP, and so a fast one: torch, h5py and NumPy are empty modules beside it.
ALLENNLP = {
    "allennlp/__init__.py": "import logging, transformers, warnings; warnings.filterwarnings('ignore', message='x')",
    "allennlp/common.py": "import logging; logging.setLoggerClass(type('Ours', (logging.Logger,), {}))",
    "allennlp/modules/__init__.py": "from spacy.tokens import Doc; from ..common import logging",
    "allennlp/modules/elmo.py": "class Elmo: pass",
    "allennlp/modules/elmo_lstm.py": "",
    "allennlp/modules/lstm_cell_with_projection.py": "",
    "torch.py": "",
    "h5py.py": "",
    "numpy.py": "",
}

RunPython = Callable[[str], str]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def write_packages(folder: Path, content: str) -> None:
    write(folder, {f"{name.replace('.', '/')}/__init__.py": content for name in PACKAGES})


@pytest.mark.slow
def test_real_packages_are_neither_used_nor_replaced(run_python: RunPython, tmp_path: Path) -> None:
    write_packages(tmp_path, WORKING)
    program = f"""
import importlib, torch
real = {{name: importlib.import_module(name) for name in {PACKAGES} if not name.startswith("fairscale")}}
used = {{name: list(module.used) for name, module in real.items()}}
remember()
elmo = import_elmo()
check_no_trace()
assert "fairscale" not in sys.modules
assert used == {{name: module.used for name, module in real.items()}}
assert elmo.batch_to_ids([["a"]]).shape == (1, 1, 50)
assert import_elmo() is elmo
check_no_trace()

# The user's own import, later: of the real packages, and with AllenNLP's logger class.
import allennlp.modules.elmo
from allennlp.data.tokenizers import spacy_tokenizer
assert allennlp.modules.elmo is not elmo
assert spacy_tokenizer.spacy is real["spacy"]
assert sys.modules["fairscale"].nn.used
assert allennlp.common.util.logger.__class__.__name__ == "AllenNlpLogger" == logging.getLoggerClass().__name__

# From then on, theirs is the one.
remember()
assert import_elmo() is allennlp.modules.elmo
check_no_trace()
"""
    run_python(PRELUDE + program)


@pytest.mark.slow
def test_broken_packages_do_not_matter(run_python: RunPython, tmp_path: Path) -> None:
    write_packages(tmp_path, BROKEN)
    write(tmp_path, {"dill/__init__.py": WORKING})  # torch itself needs it to work if it is there
    # torch is imported by this very call: it must not keep stand-ins of packages that it tries to import.
    run_python(PRELUDE + "import_elmo(); check_modules(); assert sys.modules['torch'].ones(1) == 1")


def test_allennlp_is_missing(run_python: RunPython, tmp_path: Path) -> None:
    write(tmp_path, {name: content for name, content in ALLENNLP.items() if not name.startswith("allennlp")})
    program = """
class NoAllenNlp:
    def find_spec(self, name, path=None, target=None):
        if name == "allennlp":
            raise ModuleNotFoundError("No module named 'allennlp'", name="allennlp")

sys.meta_path.insert(0, NoAllenNlp())
remember()
try:
    import_elmo()
except ImportError as error:
    print(type(error).__name__, error)
check_no_trace()
"""
    assert run_python(PRELUDE + program) == (
        f"MissingDependencyError AllenNLP's ELMo is needed, and allennlp is not installed. Run: {INSTALL_COMMAND}\n"
    )
    assert INSTALL_COMMAND == "pip install --no-deps allennlp==2.10.1"


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"allennlp/modules/__init__.py": "import spacy.x; x"}, "NameError", "name 'x' is not defined"),
        (
            {"allennlp/modules/elmo.py": "import transformers; from allennlp.gone import x"},
            "MissingDependencyError",
            f"allennlp can't be imported (No module named 'allennlp.gone'). Run: {INSTALL_COMMAND}",
        ),
        (
            {"allennlp/modules/elmo_lstm.py": "from h5py import x"},
            "MissingDependencyError",
            f"allennlp can't be imported (cannot import name 'x' from 'h5py' (TMP/h5py.py)). Run: {INSTALL_COMMAND}",
        ),
    ],
)
def test_a_failed_import_leaves_no_trace_and_can_be_repeated(
    run_python: RunPython, tmp_path: Path, files: dict[str, str], error: str, message: str
) -> None:
    write(tmp_path, ALLENNLP | files)
    write_packages(tmp_path, WORKING)
    mended = {name: ALLENNLP[name] for name in files}
    program = f"""
import spacy, spacy.language, tqdm
remember()
try:
    import_elmo()
except Exception as error:
    print(type(error).__name__, error)
check_no_trace()
for name, content in {mended}.items():
    open(name, "w").write(content)
assert import_elmo().Elmo
check_no_trace()
"""
    output = run_python(PRELUDE + program).replace(str(tmp_path), "TMP")
    assert output.startswith(error)
    assert output.endswith(message + "\n")


SLOW_ELMO = {"allennlp/modules/elmo.py": "class Elmo: pass\nimport time; time.sleep(0.5)\ncomplete = True"}


@pytest.mark.parametrize("first", ["import_elmo", "users_import"])
def test_a_second_thread_gets_the_complete_module(run_python: RunPython, tmp_path: Path, first: str) -> None:
    write(tmp_path, ALLENNLP | SLOW_ELMO)
    write_packages(tmp_path, WORKING)
    program = f"""
def users_import():
    import allennlp.modules.elmo

thread = threading.Thread(target={first})
thread.start()
while not hasattr(sys.modules.get("allennlp.modules.elmo"), "Elmo"):
    time.sleep(0.01)
elmo = import_elmo()
assert elmo.complete
private = hasattr(elmo, "cached_path")
thread.join()
print(private, import_elmo() is elmo)
"""
    assert run_python(PRELUDE + program) == f"{first == 'import_elmo'} True\n"


def test_another_thread_can_import_the_real_packages_meanwhile(run_python: RunPython, tmp_path: Path) -> None:
    write(tmp_path, ALLENNLP | SLOW_ELMO)
    write_packages(tmp_path, WORKING)
    program = """
thread = threading.Thread(target=import_elmo)
thread.start()
while not hasattr(sys.modules.get("allennlp.modules.elmo"), "Elmo"):
    time.sleep(0.01)
import lmdb
thread.join()
assert sys.modules["lmdb"] is lmdb and lmdb.used == []
"""
    run_python(PRELUDE + program)
