"""Runs all checks: `examine`."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bridge import __version__
from bridge.doctor.environment import check_cache_folder, check_keras_settings, check_python, check_variables
from bridge.doctor.files import as_arguments, check_files, is_demo, resolve_config
from bridge.doctor.findings import Check, Finding, Report, findings_of, skipped, without_secrets
from bridge.doctor.frameworks import check_frameworks
from bridge.doctor.gpus import memory_grows
from bridge.doctor.import_orders import EVERY_ORDER, USUAL_ORDERS, try_order, try_triton
from bridge.doctor.processes import in_fresh_process, kill_processes
from bridge.doctor.sentences import check_demo_sentences, check_own_sentences
from bridge.doctor.versions import check_packages
from bridge.packages import PACKAGES, installed_version, is_importable
from bridge.resources.config import ElmoConfig

# A busy machine takes minutes to import what a quiet one has in seconds.
FRAMEWORKS_TIMEOUT, SENTENCES_TIMEOUT, FILES_TIMEOUT = 300, 300, 600
DOWNLOAD_TIMEOUT = 24 * 3600
ENCODER_NEEDS = ("allennlp", "h5py", "numpy", "torch")
LAYER_NEEDS = (*ENCODER_NEEDS, "keras", "tensorflow")

Progress = Callable[[str, list[Finding], float], None]
# Its name, the modules that it needs, and what runs it.
Task = tuple[str, tuple[str, ...], Check]


def examine(
    config: str | None = None, *, download: bool = False, full: bool = False, progress: Progress | None = None
) -> Report:
    """Looks at the environment, the files and the numbers. Changes nothing, but for what `download` asks.

    Args:
        config: an INI file or a named model; by default the environment's, else the demo model.
        download: whether files at a URL may be downloaded.
        full: try every import order, and not just two.
        progress: is called with the name, findings and seconds of each check that ends, from several threads.

    Returns:
        The report. Nothing that is wrong with the environment raises.
    """
    start = time.monotonic()
    elmo_config, config_findings = resolve_config(config)
    findings = _run("config", (), lambda: config_findings, progress)
    findings += [item for name, check in QUICK_CHECKS for item in _run(name, (), check, progress)]
    right_keras = not any(item.check == "keras settings" and item.status == "problem" for item in findings)
    tasks = _tasks(elmo_config, download, full, right_keras)
    # Two at a time: each is a process that spends its time importing.
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(_run, *task, progress) for task in tasks]
        try:
            for future in futures:
                findings += future.result()
        except BaseException:  # Ctrl-C
            pool.shutdown(wait=False, cancel_futures=True)
            kill_processes()
            raise
    described = "unreadable" if elmo_config is None else "demo" if is_demo(elmo_config) else str(elmo_config)
    return Report(
        bridge_version=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages={package.name: installed_version(package) for package in PACKAGES},
        config=without_secrets(described),
        seconds=round(time.monotonic() - start, 1),
        problems=sum(finding.status == "problem" for finding in findings),
        findings=findings,
    )


QUICK_CHECKS: tuple[tuple[str, Check], ...] = (
    ("python", check_python),
    ("packages", check_packages),
    ("keras settings", check_keras_settings),
    ("variables", check_variables),
    ("cache folder", check_cache_folder),
)


def _tasks(config: ElmoConfig | None, download: bool, full: bool, right_keras: bool) -> list[Task]:
    """The checks that have processes of their own."""
    frameworks = tuple(name for name in LAYER_NEEDS if is_importable(name))
    tasks: list[Task] = [
        (
            "sentences",
            LAYER_NEEDS,
            partial(in_fresh_process, "sentences", check_demo_sentences, timeout=SENTENCES_TIMEOUT)
            if right_keras
            else lambda: [skipped("sentences", "Not run, because of Keras's settings.")],
        ),
        (
            "frameworks",
            (),
            partial(
                in_fresh_process, "frameworks", check_frameworks, frameworks, memory_grows(), timeout=FRAMEWORKS_TIMEOUT
            ),
        ),
    ]
    needs = (*ENCODER_NEEDS, "tensorflow")
    if _missing(needs):
        tasks.append(("import order", needs, tuple))
    else:
        orders = EVERY_ORDER if full else USUAL_ORDERS
        tasks += [(f"import order {', '.join(order)}", needs, partial(try_order, order)) for order in orders]
    if is_importable("triton"):
        tasks.append(("import order tensorflow, triton", ("tensorflow",), try_triton))
    if config is not None:
        tasks.append(("files", ("h5py", "numpy"), partial(_check_weights, config, download)))
    return tasks


def _check_weights(config: ElmoConfig, download: bool) -> list[Finding]:
    """The files, and what comes out of them, if they are sound and not the demo model's, which is run anyway."""
    timeout = DOWNLOAD_TIMEOUT if download else FILES_TIMEOUT
    findings = in_fresh_process("files", check_files, as_arguments(config), download, timeout=timeout)
    if is_demo(config):
        return findings
    if any(finding.status != "ok" for finding in findings):
        return [*findings, skipped("your weights", "Not run, because of their files.")]
    missing = _missing(ENCODER_NEEDS)
    if missing:
        return [*findings, missing_packages("your weights", missing)]
    return findings + in_fresh_process(
        "your weights", check_own_sentences, as_arguments(config), download, timeout=SENTENCES_TIMEOUT + FILES_TIMEOUT
    )


def _run(name: str, needs: tuple[str, ...], check: Check, progress: Progress | None) -> list[Finding]:
    """Runs a check from here, or says that it can't be run without a package."""
    start = time.monotonic()
    missing = _missing(needs)
    items = [missing_packages(name, missing)] if missing else findings_of(name, check)
    findings = [_without_secrets(item) for item in items if isinstance(item, Finding)]
    if progress is not None:
        progress(name, findings, time.monotonic() - start)
    return findings


def _missing(needs: Iterable[str]) -> list[str]:
    return [name for name in needs if not is_importable(name)]


def missing_packages(check: str, missing: Iterable[str]) -> Finding:
    """A check that a missing package, which is a problem of its own, makes impossible."""
    return skipped(check, f"Needs {', '.join(missing)}, which can't be imported.")


def _without_secrets(finding: Finding) -> Finding:
    texts = {name: without_secrets(text) for name, text in finding if name in ("found", "remedy", "command") and text}
    return finding.model_copy(update=texts)
