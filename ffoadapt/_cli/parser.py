"""Arguments in, exit code out; every error that is ours becomes one line on stderr."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from .. import __version__
from .._exceptions import FFOAdaptError
from . import check, compare, new_plugin, plugins
from .console import reason
from .plugins import kernel

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, of ``sys.argv`` by default, and return its exit code."""
    try:
        try:
            return _run(arguments)
        finally:  # also what argparse prints before it exits
            sys.stdout.flush()
    except FFOAdaptError as error:
        return _fail(reason(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `ffoadapt plugins | head`: the reader has seen enough
        _forget_output()
        return 0
    except OSError as error:  # a full disk, a directory that cannot be written to
        _forget_output()
        return _fail(reason(error))
    except MemoryError as error:
        return _fail(f"there is not enough memory: {reason(error)}")


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    code: int = options.run(options)
    return code


def _fail(text: str) -> int:
    with contextlib.suppress(OSError):
        print(f"error: {text}", file=sys.stderr)
    return 2


def _forget_output() -> None:
    """What could not be written is not tried again at exit, which would print a traceback."""
    with contextlib.suppress(OSError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Version(argparse.Action):
    """Prints the version, and whether the compiled kernel is in use, when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"ffoadapt {__version__} ({kernel()})")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ffoadapt", description="Optimization solvers as differentiable layers."
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in (plugins, check, compare, new_plugin):
        command.add(commands)
    return parser
