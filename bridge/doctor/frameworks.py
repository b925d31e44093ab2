"""PyTorch, TensorFlow, Keras and AllenNLP, each imported: run it in a fresh process.

One that can't be imported is a problem, and the others are looked at all the same.
"""

# ruff: noqa: PLC0415 - that these imports may fail is the point

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from bridge.doctor.environment import BACKEND_COMMAND
from bridge.doctor.findings import Finding, note, ok, problem
from bridge.doctor.gpus import check_gpus
from bridge.doctor.threads import check_tensorflow_threads, check_torch_threads, usable_cores
from bridge.packages import PACKAGES, is_importable

COMMANDS = {package.module: package.command for package in PACKAGES}


def check_frameworks(names: Sequence[str], memory_grows: bool) -> Iterator[Finding | str]:
    """Imports each of the frameworks, in this order, and looks at their builds, threads and GPUs.

    Args:
        names: of those that are installed.
        memory_grows: see `check_gpus`.
    """
    modules: dict[str, Any] = {}
    for name in ("numpy", "h5py", "torch", "tensorflow", "keras"):
        if name in names:
            yield f"import {name}"
            try:
                modules[name] = importlib.import_module(name)
            except Exception as error:  # broken packages raise OSError, AttributeError, RuntimeError ...
                yield problem(
                    name,
                    f"`import {name}` fails with {type(error).__name__}: {error}",
                    "Install it again, in the tested version.",
                    f"{COMMANDS[name]} --force-reinstall",
                )
    if "torch" in modules:
        yield from _check_torch(modules["torch"])
    if "tensorflow" in modules:
        yield from _check_tensorflow(modules["tensorflow"])
    if "keras" in modules:
        yield from _check_keras(modules["keras"])
    if "torch" in modules and "h5py" in modules and "allennlp" in names:
        yield "import allennlp"
        yield from _check_allennlp()
    if "torch" in modules and "tensorflow" in modules:
        yield "GPUs"
        torch, tensorflow = modules["torch"], modules["tensorflow"]
        torch_gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        tensorflow_gpus = [gpu.name for gpu in tensorflow.config.list_physical_devices("GPU")]
        yield from check_gpus(torch_gpus, tensorflow_gpus, memory_grows)


def _check_torch(torch: Any) -> Iterator[Finding]:
    version = torch.version
    build = f"CUDA {version.cuda}" if version.cuda else f"ROCm {version.hip}" if version.hip else "processor only"
    triton = "triton is installed" if is_importable("triton") else "no triton"
    yield ok("torch", f"{torch.__version__}, built for: {build}; {triton}.")
    if version.cuda and not torch.cuda.is_available():
        yield note(
            "torch", f"Its build is for CUDA {version.cuda}, and it can use no GPU here: it runs on the processor."
        )
    yield from check_torch_threads(torch.get_num_threads(), usable_cores())


def _check_tensorflow(tensorflow: Any) -> Iterator[Finding]:
    build = "CUDA" if tensorflow.test.is_built_with_cuda() else "processor only"
    yield ok("tensorflow", f"{tensorflow.__version__}, built for: {build}.")
    threads = tensorflow.config.threading.get_intra_op_parallelism_threads()
    yield from check_tensorflow_threads(threads, usable_cores())


def _check_keras(keras: Any) -> Iterator[Finding]:
    version = str(getattr(keras, "__version__", "unknown"))
    if not version.startswith("3"):
        yield problem(
            "keras",
            f"`import keras` gives Keras {version}: the bridge's layers are of Keras 3.",
            "Install Keras 3; what needs Keras 2 can import tf_keras.",
            COMMANDS["keras"],
        )
        return
    backend = keras.backend.backend()
    if backend != "tensorflow":
        yield problem(
            "keras",
            f"Keras {version} runs on its {backend!r} backend: the bridge's layers need tensorflow.",
            "Set it before Keras is imported.",
            BACKEND_COMMAND,
        )
    else:
        yield ok("keras", f"{version} on tensorflow.")


def _check_allennlp() -> Iterator[Finding]:
    from bridge.encoder.elmo_import import import_elmo
    from bridge.packages import INSTALL_COMMAND

    try:
        module = import_elmo()
    except ImportError as error:
        yield problem("allennlp", str(error), "Install the version that has ELMo.", INSTALL_COMMAND)
    else:
        yield ok("allennlp", f"{module.__name__} can be imported, without the rest of AllenNLP.")
