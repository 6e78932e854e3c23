"""A check that the solver does not take the process with it, made in another process."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import time
import warnings

from .._plugins.registry import registry
from .._solve.options import common_names
from ._extremes import run
from ._subject import DEFAULT, AnySolver, CheckFailure, CheckSettings, CheckSkipped, load

__all__ = ["check_survives"]

LIMIT = 15.0
"""Seconds after which the other process is ended: to be slow is no crash."""


def check_survives(solver: AnySolver, settings: CheckSettings = DEFAULT) -> None:
    """On programs of extreme numbers and sizes the process goes on, whatever the solver answers.

    The solver runs in a child process: a new one where it is the name of an installed solver, a
    fork of this one where it is an object or was registered at run time.
    """
    loaded, name = load(solver)
    limited = {"max_iterations": 500} if "max_iterations" in common_names(loaded) else {}
    options = settings.options(loaded, **limited)
    installed = isinstance(solver, str) and any(
        row.kind == "solver" and row.name == solver and row.distribution != "(this process)"
        for row in registry.listing()
    )
    if installed:
        try:
            given = json.dumps(options)
        except TypeError as error:
            raise CheckSkipped("its options cannot be handed to another process") from error
        module = f"{__package__}._extremes"
        command = [sys.executable, "-m", module, str(solver), given, str(settings.seed)]
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            return
        end: tuple[bytes, int | None] = done.stdout, done.returncode
    elif hasattr(os, "fork"):
        end = _forked(loaded, name, options, settings.seed)
    else:
        raise CheckSkipped(
            "it is an object of this process, and this platform cannot fork; register it by an "
            "entry point and check it by its name"
        )
    words, code = end
    if code is None:
        return
    said = words.decode(errors="replace").split("\n")
    if code == 0 and said[-2:] == ["", ""]:
        return
    at = next((word for word in reversed(said) if word), "its import")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    raise CheckFailure(
        f"the process ended ({how}) at the program {at!r}; expected a Solution with any status, or "
        "an exception. Likely cause: numbers or sizes that the vendor's compiled code does not "
        "check; refuse them in the adapter (raise ValueError), or hand them over in other units"
    )


def _forked(solver: object, name: str, options: object, seed: int) -> tuple[bytes, int | None]:
    """What a fork says, and how it ended; None where it was ended for being slow."""
    back, to = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns where there are threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(sink, stream)
            warnings.simplefilter("ignore")
            faulthandler.disable()
            run(solver, name, options, seed, lambda word: os.write(to, f"{word}\n".encode()))  # type: ignore[arg-type]
            code = 0
        finally:
            os._exit(code)
    os.close(to)
    words, end, slow = b"", time.monotonic() + LIMIT, False
    with os.fdopen(back, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                slow = True
                os.kill(child, signal.SIGKILL)
                break
            part = pipe.read(65536)
            if not part:
                break
            words += part
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return words, None if slow else status
