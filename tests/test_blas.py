"""One BLAS thread around our own linear algebra, whichever thread asks for it."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from ffoadapt._runtime import blas
from ffoadapt._runtime.costs import ONE_THREAD_ORDER

threadpoolctl = pytest.importorskip("threadpoolctl")


LIBRARIES = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers


def threads() -> list[int]:
    return [library.num_threads for library in LIBRARIES]


@pytest.fixture(params=["straight", "threadpoolctl"])
def several(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two threads each, so that there is something to bound."""
    if request.param == "threadpoolctl":
        switches = [(lib.get_num_threads, partial(blas._set, lib)) for lib in LIBRARIES]
        monkeypatch.setitem(blas._state, "switches", switches)
    before = threads()
    for library in LIBRARIES:
        blas._set(library, 2)
    yield threads()
    for library, count in zip(LIBRARIES, before, strict=True):
        blas._set(library, count)


def test_goes_straight_to_openblas() -> None:
    for library in LIBRARIES:
        if library.internal_api == "openblas" and library.threading_layer == "pthreads":
            assert not isinstance(blas._switch(library)[1], partial)


def test_bounds_and_restores(several: list[int]) -> None:
    with blas.one_thread(ONE_THREAD_ORDER + 1):
        assert threads() == [1] * len(several)
        with blas.one_thread(ONE_THREAD_ORDER + 1):
            pass
        assert threads() == [1] * len(several)
    assert threads() == several


def test_leaves_small_ones_alone(several: list[int]) -> None:
    with blas.one_thread(ONE_THREAD_ORDER):
        assert threads() == several


def test_in_a_thread_after_another(several: list[int]) -> None:
    """The first thread to bound them, still alive, keeps no other from doing so."""
    with blas.one_thread(ONE_THREAD_ORDER + 1):
        pass
    seen: list[list[int]] = []

    def work() -> None:
        with blas.one_thread(ONE_THREAD_ORDER + 1):
            seen.append(threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[1] * len(several)]
    assert threads() == several


def test_the_last_of_two_threads_restores(several: list[int]) -> None:
    inside, go = threading.Event(), threading.Event()

    def work() -> None:
        with blas.one_thread(ONE_THREAD_ORDER + 1):
            inside.set()
            go.wait(10)

    thread = threading.Thread(target=work)
    with blas.one_thread(ONE_THREAD_ORDER + 1):
        thread.start()
        assert inside.wait(10)
    assert threads() == [1] * len(several)
    go.set()
    thread.join()
    assert threads() == several
