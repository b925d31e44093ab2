"""Forked and spawned children: what can work works, and what would hang is an error that says what to do."""

from pathlib import Path
from typing import Any

import pytest
from load.programs import results, run

# What a child did: `ok`, the kind of its error, or the signal that ended its hang.
ATTEMPTS = """
import json
outcomes = {}

def attempt(name, function, seconds=30):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            function()
        except BridgeError as error:
            told = type(error).__name__ + (" and the way out" if "'spawn'" in str(error) else "")
        except BaseException as error:
            told = repr(error)
        else:
            told = "ok"
        Path("told").write_text(told)
        os._exit(0)
    code = os.waitpid(pid, 0)[1]
    outcomes[name] = Path("told").read_text() if code == 0 else f"ended by signal {code}"
"""

# One parent in three moments. Children take a fifth of a second each, Python's imports several.
THREE_MOMENTS = """
def fit_predict():
    model = make_model()
    model.fit(tokens(), LABELS, verbose=0)
    model.predict(tokens(), verbose=0)

attempt("TensorFlow unused: a model", fit_predict)

model = make_model()
layer, x = model.layers[0], tokens()
long = tf.constant(batch_to_ids([["a"] * 100] * 64))  # TensorFlow's eager operations use threads where it pays
graph = tf.function(lambda x: layer(x))
concrete = tf.function(lambda x: layer(x)).get_concrete_function(x)
other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
USES = {
    "predict": lambda: model.predict(x, verbose=0),
    "fit": lambda: model.fit(x, LABELS, verbose=0),
    "evaluate": lambda: model.evaluate(x, LABELS, verbose=0),
    "predict_on_batch": lambda: model.predict_on_batch(x),
    "train_on_batch": lambda: model.train_on_batch(x, LABELS),
    "a function": lambda: graph(x),
    "a traced function": lambda: concrete(x),
    "eager": lambda: layer(x),
    "eager, long": lambda: layer(long),
    "the model": lambda: model(x),
    "the encoder": lambda: layer.encoder(IDS),
    "a new model": lambda: make_model().predict(x, verbose=0),
    "a dataset": lambda: list(tf.data.Dataset.from_tensors(x).map(layer, num_parallel_calls=2).prefetch(1)),
    "another model": lambda: other.predict(np.ones((3, 2)), verbose=0),
}
HARMLESS = {
    "eager operations": lambda: (tf.constant([1, 2]) + 1).numpy(),
    "a dataset of others": lambda: list(tf.data.Dataset.range(9).map(lambda x: x + 1, num_parallel_calls=2)),
    "the model eagerly": lambda: other(np.ones((3, 2))),
    "saving": lambda: model.save("model.keras"),
    "loading": lambda: keras.models.load_model("model.keras"),
    "summary": lambda: model.summary(print_fn=lambda *lines, **more: None),
    "NumPy": lambda: IDS.sum(),
}
for name, use in USES.items():
    attempt(f"made: {name}", use)
for use in USES.values():
    use()  # the parent goes on as if nothing had been
for name, use in USES.items():
    attempt(f"used: {name}", use)
for name, use in HARMLESS.items():
    attempt(f"harmless: {name}", use)
for use in USES.values():
    use()
print(json.dumps(outcomes))
"""


@pytest.mark.slow
def test_a_forked_child_works_or_raises_and_never_hangs(tmp_path: Path) -> None:
    outcomes = results(run(ATTEMPTS + THREE_MOMENTS, tmp_path))
    wrong = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome != ("ProcessError and the way out" if name.startswith(("made", "used")) else "ok")
    }
    # A graph that calls Python on its way may only promise the text.
    for name in ("made: a dataset", "used: a dataset"):
        assert "the call would hang" in wrong.pop(name, "the call would hang")
    assert not wrong
    assert len(outcomes) == 36


WITHOUT_THE_BRIDGE = """
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.predict(np.ones((3, 2)), verbose=0)
attempt("Keras alone", lambda: model.predict(np.ones((3, 2)), verbose=0), seconds=5)
print(json.dumps(outcomes))
"""


@pytest.mark.slow
def test_what_is_refused_hangs_in_tensorflow(tmp_path: Path) -> None:
    """When TensorFlow mends this, `bridge/layers/forks.py` can go."""
    assert results(run(ATTEMPTS + WITHOUT_THE_BRIDGE, tmp_path)) == {"Keras alone": "ended by signal 14"}


POOLS = """
import json, multiprocessing
from concurrent.futures import ProcessPoolExecutor

encoder = model = None

def predict(_):
    '''With a model of the worker's own.'''
    global model
    model = model or make_model(dropout=0.0, output_mode="average")
    model.layers[-1].set_weights([np.ones((12, 1)), np.zeros(1)])
    return model.predict(tokens(), verbose=0).tolist()

def encode(_):
    '''With an encoder of the worker's own.'''
    global encoder
    encoder = encoder or ElmoEncoder(config)
    return encoder(IDS).activations.numpy().sum().item()

def inherited(_):
    '''With the model of the parent.'''
    return model.predict(tokens(), verbose=0).tolist()

def answers(method, function, pool):
    context = multiprocessing.get_context(method)
    if pool == "Pool":
        with context.Pool(2) as workers:
            return workers.map_async(function, range(4)).get(100)
    with ProcessPoolExecutor(2, mp_context=context) as workers:
        return list(workers.map(function, range(4), timeout=100))

def told(method, function, pool):
    try:
        return answers(method, function, pool)
    except BridgeError as error:
        return f"{type(error).__name__}: {error}"

def both(_):
    return [predict(_), encode(_)]

if __name__ == "__main__":
    method, pool = sys.argv[1:]
    # Spawned children import TensorFlow anew: seconds each.
    before = told(method, both, pool) if method == "fork" else None
    wanted = both(0)
    encoder = None
    functions = (predict, encode, inherited) if method == "fork" else (both,)
    print(json.dumps([wanted, before, [told(method, function, pool) for function in functions]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("method", "pool"), [("fork", "Pool"), ("spawn", "ProcessPoolExecutor")])
def test_workers_of_a_pool(method: str, pool: str, tmp_path: Path) -> None:
    wanted, before, after = results(run(POOLS, tmp_path, method, pool))
    if method == "spawn":
        assert list(map(flat, after[0])) == [pytest.approx(flat(wanted), abs=1e-5)] * 4
        return
    assert list(map(flat, before)) == [pytest.approx(flat(wanted), abs=1e-5)] * 4
    made, encoded, inherited = after
    assert made.startswith("ProcessError: A `tf.function`, and so Keras's `fit`")
    assert inherited.startswith("ProcessError: A `tf.function`, and so Keras's `fit`")
    assert encoded == [pytest.approx(wanted[1], abs=1e-5)] * 4  # with one thread of PyTorch's it works


def flat(answer: Any) -> list[float]:
    predicted, encoded = answer
    return [row[0] for row in predicted] + [encoded]


LOADERS = """
import json
from torch.utils.data import DataLoader, Dataset

class Sentences(Dataset):
    def __init__(self, use):
        self.use = use

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.use(["word"] * (index + 1))

def own(sentence):
    global encoder
    encoder = globals().get("encoder") or ElmoEncoder(config)
    return encoder.embed([sentence])[0].sum()

def loaded(use):
    try:
        return [float(value) for value in DataLoader(Sentences(use), num_workers=2, batch_size=None)]
    except BridgeError as error:
        return str(error)

torch.set_num_threads(2)
before = loaded(own)
parents = ElmoEncoder(config)
unused = loaded(lambda sentence: parents.embed([sentence])[0].sum())
wanted = [float(parents.embed([["word"] * count])[0].sum()) for count in range(1, 7)]
used = loaded(lambda sentence: parents.embed([sentence])[0].sum())
print(json.dumps([wanted, before, unused, used, loaded(own)]))
"""


@pytest.mark.slow
def test_workers_of_a_torch_data_loader(tmp_path: Path) -> None:
    wanted, before, unused, used, own = results(run(LOADERS, tmp_path))
    assert before == pytest.approx(wanted, abs=1e-5)
    assert own == pytest.approx(wanted, abs=1e-5)
    for refused in (unused, used):
        assert "An ElmoEncoder must be used in the process that made it" in refused
        assert "'spawn'" in refused
