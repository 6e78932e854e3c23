"""Arguments in, exit code out; every error that is ours becomes one line on stderr."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from .._exceptions import FFOAdaptError
from . import check, compare, new_plugin, plugins

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, of ``sys.argv`` by default, and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except FFOAdaptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `ffoadapt plugins | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ffoadapt", description="Optimization solvers as differentiable layers."
    )
    parser.add_argument("--version", action="version", version=f"ffoadapt {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in (plugins, check, compare, new_plugin):
        command.add(commands)
    return parser
