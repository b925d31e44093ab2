"""The command `elmo-bridge`: its commands, and how errors end it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bridge import BridgeError, __version__
from bridge.cli.convert import convert
from bridge.cli.doctor import doctor
from bridge.cli.embed import embed
from bridge.cli.evaluate import evaluate
from bridge.cli.inspect import inspect
from bridge.cli.predict import predict
from bridge.cli.pretrain import pretrain
from bridge.cli.train import train

# Not rich's tracebacks: an error of ours is one line, and one that is not should look like Python's.
app = typer.Typer(name="elmo-bridge", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.command()(embed)
app.command()(convert)
app.command()(pretrain)
app.command()(train)
app.command()(evaluate)
app.command()(predict)
app.command()(inspect)
app.command()(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"elmo-bridge {__version__}")
        raise typer.Exit


@app.callback()
def elmo_bridge(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """AllenNLP's ELMo: vectors of whole corpora, classifiers and taggers to train, measure and use, and new biLMs."""


def main() -> None:
    """Runs the command; an error of the bridge or of the file system is one line on stderr and exit code 1.

    Ctrl-C is exit code 130, as in a shell.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it would greet every run
    try:
        app()
    except (BridgeError, OSError) as error:  # their messages are written for users
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # before or after typer, which has its own way, is in charge
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
