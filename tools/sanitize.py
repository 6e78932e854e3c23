"""Builds the compiled code with gcc's sanitizers, and runs what calls it: its fuzz and its tests.

The address sanitizer ends the process where anything is read or written that is not the program's
own, the other one where a size overflows, a pointer is misaligned or a shift is too far. Python's
and NumPy's memory is watched too. Both are gcc's, on Linux; elsewhere there is nothing to run, and
this says so and succeeds.

    python tools/sanitize.py [TEST ...]
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "build" / "sanitize" / "_compiled.abi3.so"
LOG = BUILT.with_name("log")

FLAGS = (
    "-g -O1 -fno-omit-frame-pointer -fPIC -shared -Wall -Wextra -Werror -Wno-unused-parameter "
    "-Wno-missing-field-initializers -Wno-cast-function-type -fsanitize=address,undefined "
    "-fno-sanitize-recover=undefined"
).split()

CALLS, SEEDS = 6_000, (0, 1)
"""What is fuzzed: some 10 seconds of a core each."""

TESTS = """
tests/test_kernel.py tests/test_kernel_arguments.py tests/test_batching.py tests/test_oracle.py
tests/test_solver_batches.py tests/test_sparse_path.py tests/test_least_distance.py
""".split()
"""Tests of what calls it."""

FUZZ = "tests/test_kernel_arguments.py::test_every_function_is_fuzzed"
"""Runs the fuzz in a process that would have another build."""


def missing() -> str:
    """What keeps the sanitizers from running here; an empty string where nothing does."""
    compiler = shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        return "the sanitizers are those of gcc on Linux, and there is no gcc here"
    if not all(Path(library).is_absolute() for library in _libraries()):
        return "gcc has no libasan here (Debian: apt-get install libgcc-12-dev or newer)"
    return ""


def _libraries() -> list[str]:
    """What has to be in the process before Python; a name without a folder where there is none."""
    # libstdc++ too: the sanitizer looks for the function that throws when it starts.
    names = ("libasan.so", "libstdc++.so")
    ask = [["gcc", f"-print-file-name={name}"] for name in names]
    return [subprocess.run(a, capture_output=True, text=True).stdout.strip() for a in ask]


def build() -> None:
    """Compiles to a folder of its own."""
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    sources = sorted(map(str, (ROOT / "ffoadapt" / "_kernel" / "c").glob("*.c")))
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run(["gcc", *FLAGS, include, *sources, "-o", str(BUILT)], check=True)


def run(*arguments: str) -> None:
    """A Python program that finds the sanitized build in the place of the other one."""
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(_libraries()),
        # Python does not free all at its end; an allocation that is too large has to return NULL,
        # of which there is a warning each time, so that all goes to a file.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:alloc_dealloc_mismatch=0"
        f":log_path={LOG}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={LOG}",
        "PYTHONMALLOC": "malloc",
    }
    for log in BUILT.parent.glob("log.*"):
        log.unlink()
    print(f"==> {' '.join(arguments)}", flush=True)
    started = time.monotonic()
    within = [sys.executable, str(Path(__file__).resolve()), "--within", *arguments]
    code = subprocess.run(within, env=environment, cwd=ROOT).returncode
    if code:
        for log in BUILT.parent.glob("log.*"):
            print(log.read_text(errors="replace"))
        raise SystemExit(f"the sanitized build failed: exit status {code}")
    print(f"    {time.monotonic() - started:.0f} s", flush=True)


def within(arguments: list[str]) -> None:
    """Runs a script, or pytest, with the sanitized build as ffoadapt._kernel._compiled."""
    spec = importlib.util.spec_from_file_location("ffoadapt._kernel._compiled", BUILT)
    assert spec is not None and spec.loader is not None
    kernel = importlib.util.module_from_spec(spec)
    sys.modules["ffoadapt._kernel._compiled"] = kernel
    spec.loader.exec_module(kernel)
    from ffoadapt import _kernel

    assert _kernel.kernel is kernel, "the package has found another build"
    sys.argv = arguments
    if arguments[0] == "pytest":
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(arguments[0], run_name="__main__")


def main() -> None:
    """See above."""
    if sys.argv[1:2] == ["--within"]:
        within(sys.argv[2:])
        return
    if why := missing():
        print(f"==> skipped: {why}")
        return
    print("==> building with the address and undefined behaviour sanitizers", flush=True)
    build()
    for seed in SEEDS:
        run("tools/fuzz_kernel.py", "--calls", str(CALLS), "--seed", str(seed))
    # What the sanitizers say must not end in what pytest captures.
    options = "-p no:faulthandler -p no:cacheprovider --capture=sys --deselect".split()
    run("pytest", *options, FUZZ, *(sys.argv[1:] or TESTS))


if __name__ == "__main__":
    main()
