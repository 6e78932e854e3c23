"""`executor="ray"` on a cluster of two local workers."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from scipy import sparse

import ffoadapt

ray = pytest.importorskip("ray", reason="ray is not installed: pip install ray")

from ffoadapt_ray import RayExecutor  # noqa: E402

SOLVERS = [name for name in ("clarabel", "osqp", "scs") if name in ffoadapt.solvers()]


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine with two CPUs, whatever it has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Ray says about itself
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def executor(cluster):
    return RayExecutor(workers=2)


def problem(size, n=6, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    return {
        "P": root @ root.T + np.eye(n),
        "q": rng.normal(size=(size, n)),
        "G": rng.normal(size=(4, n)),
        "h": rng.uniform(0.5, 1.0, size=(size, 4)),
        "A": rng.normal(size=(1, n)),
        "b": rng.normal(size=1),
    }


def same(found, expected):
    for name, ours, serial in zip(found._fields, found, expected, strict=True):
        np.testing.assert_array_equal(ours, serial, err_msg=name)


@pytest.mark.parametrize("solver", SOLVERS)
def test_bitwise_the_serial_result(executor, solver):
    data = problem(7)
    serial = ffoadapt.qp(**data, solver=solver, executor="serial")
    for _ in range(2):  # the second call finds its sessions
        same(ffoadapt.qp(**data, solver=solver, executor=executor), serial)


def test_by_name(executor):
    """Also where others hold all CPUs, here the workers of the fixture."""
    data = problem(3)
    ffoadapt.qp(**data, executor=executor)
    same(ffoadapt.qp(**data, executor="ray"), ffoadapt.qp(**data, executor="serial"))
    assert "ray" in ffoadapt.executors()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_batches(executor, size):
    data = problem(size)
    same(ffoadapt.qp(**data, executor=executor), ffoadapt.qp(**data, executor="serial"))


def test_sparse_and_cones(executor):
    data = problem(5, n=30)
    data = {**data, "G": sparse.csc_matrix(data["G"]), "P": sparse.identity(30, format="csc")}
    same(
        ffoadapt.qp(**data, solver=SOLVERS[0], executor=executor),
        ffoadapt.qp(**data, solver=SOLVERS[0], executor="serial"),
    )
    rng = np.random.default_rng(0)
    cones = [ffoadapt.SecondOrderCone(4)]
    A, b = -np.eye(4), np.zeros(4)
    arguments = np.eye(4), rng.normal(size=(5, 4)), A, b, cones
    same(
        ffoadapt.cone_program(*arguments, executor=executor),
        ffoadapt.cone_program(*arguments, executor="serial"),
    )


def test_gradients(executor):
    torch = pytest.importorskip("torch")
    pytest.importorskip("ffoadapt_torch")
    data = {k: torch.tensor(v) for k, v in problem(5).items()}
    grads = []
    for each in ("serial", executor):
        q = data["q"].clone().requires_grad_()
        ffoadapt.qp(**{**data, "q": q}, executor=each).x.square().sum().backward()
        grads.append(q.grad)
    assert torch.equal(*grads)


def test_failed_elements_keep_their_place(executor):
    data = problem(5)
    data["G"] = np.vstack([np.eye(6)[:2], -np.eye(6)[:2]])
    data["h"][3] = [-1.0, -1.0, -1.0, -1.0]  # x <= -1 and x >= 1
    with pytest.raises(ffoadapt.SolveError, match="batch element 3: primal_infeasible"):
        ffoadapt.qp(**data, solver=SOLVERS[0], executor=executor)
    found = ffoadapt.qp(**data, solver=SOLVERS[0], executor=executor, on_failure="nan")
    assert np.isnan(found.x).all(axis=1).tolist() == [False, False, False, True, False]


def test_sessions_stay_in_their_actors(executor, tmp_path):
    """Each actor builds its session once: two files for two actors, whatever the calls."""

    class Counting(ffoadapt.Solver):
        form = "box"
        matrices = ("dense",)

        def solve(self, program, options, session):
            if "made" not in session:
                session["made"] = True
                (tmp_path / f"{os.getpid()}-{time.time_ns()}").touch()
            x = -program.q  # P = I, and bounds that are never active
            return ffoadapt.Solution(x, np.zeros(len(program.l)))

    rng = np.random.default_rng(0)
    solver, q = Counting(), rng.normal(size=(6, 3))
    for _ in range(3):
        found = ffoadapt.box_qp(
            np.eye(3),
            q,
            np.eye(3),
            np.full(3, -9.0),
            np.full(3, 9.0),
            solver=solver,
            executor=executor,
        )
        np.testing.assert_array_equal(found.x, -q)
    files = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert len(files) == len(set(files)) == 2
    assert str(os.getpid()) not in files


def test_an_error_of_the_job_is_ours(executor):
    class Job:
        parallel = True

        def solve(self, batch):
            raise ffoadapt.UnsupportedProblemError("too large")

    class Batch(list):
        size = 4

        def take(self, part):
            return self[part]

    with pytest.raises(ffoadapt.UnsupportedProblemError, match="too large"):
        executor.run(Job(), Batch([1, 2, 3, 4]))


class TestLostWorkers:
    @staticmethod
    def solver(marker, seconds=0.0, deaths=1):
        """Solves x = -q; the first ``deaths`` times a process gets q[0] > 0, it dies."""

        class Dying(ffoadapt.Solver):
            form = "box"
            matrices = ("dense",)

            def solve(self, program, options, session):
                time.sleep(seconds)
                died = len(list(marker.iterdir()))
                if program.q[0] > 0 and died < deaths:
                    (marker / str(died)).touch()
                    os._exit(1)
                return ffoadapt.Solution(-program.q, np.zeros(len(program.l)))

        return Dying()

    @staticmethod
    def call(executor, solver, q):
        bounds = np.full(2, 9.0)
        return ffoadapt.box_qp(
            np.eye(2), q, np.eye(2), -bounds, bounds, solver=solver, executor=executor
        )

    def test_a_worker_that_dies_is_replaced(self, executor, tmp_path):
        q = -np.ones((6, 2))
        q[4] = 1.0
        before = list(executor._actors)
        found = self.call(executor, self.solver(tmp_path), q)
        np.testing.assert_array_equal(found.x, -q)
        assert len(list(tmp_path.iterdir())) == 1
        replaced = [old is not new for old, new in zip(before, executor._actors, strict=True)]
        assert replaced == [False, True]  # the second shard's

    def test_an_actor_killed_during_a_run(self, executor, tmp_path):
        q = -np.ones((8, 2))
        self.call(executor, self.solver(tmp_path), q)
        victim = executor._actors[0]
        killer = threading.Timer(0.5, lambda: ray.kill(victim))
        killer.start()
        found = self.call(executor, self.solver(tmp_path, seconds=0.3), q)
        killer.join()
        np.testing.assert_array_equal(found.x, -q)
        assert executor._actors[0] is not victim

    def test_an_element_that_kills_every_worker_is_an_error(self, cluster, executor, tmp_path):
        executor.retries, before = 1, executor.retries
        try:
            with pytest.raises(ffoadapt.SolveError, match=r"error .*died 2 times") as caught:
                self.call(
                    executor, self.solver(tmp_path, deaths=9), np.array([[-1.0, 0], [1.0, 0]])
                )
        finally:
            executor.retries = before
        assert caught.value.statuses == {1: ffoadapt.Status.ERROR}

    def test_its_neighbours_are_solved(self, executor, tmp_path):
        q = -np.ones((10, 2))
        q[[3, 6]] = 1.0  # one in each shard
        executor.retries, before = 0, executor.retries
        bounds = np.full(2, 9.0)
        arguments = np.eye(2), q, np.eye(2), -bounds, bounds
        try:
            found = ffoadapt.box_qp(
                *arguments,
                solver=self.solver(tmp_path, deaths=99),
                executor=executor,
                on_failure="nan",
            )
        finally:
            executor.retries = before
        alone = np.isin(np.arange(10), [3, 6])
        assert np.isnan(found.x).all(axis=1).tolist() == alone.tolist()
        np.testing.assert_array_equal(found.x[~alone], -q[~alone])

    def test_workers_that_die_of_everything_are_no_elements_fault(self, executor, tmp_path):
        executor.retries, before = 0, executor.retries
        try:
            with pytest.raises(ffoadapt.PluginError, match="whatever they are given"):
                self.call(executor, self.solver(tmp_path, deaths=999), np.ones((17, 2)))
        finally:
            executor.retries = before


def test_threads(executor):
    data = problem(6)
    serial = ffoadapt.qp(**data, executor="serial")
    found = [None] * 4

    def call(k):
        found[k] = ffoadapt.qp(**data, executor=executor)

    threads = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        same(each, serial)


def test_copies_have_actors_of_their_own(executor):
    for other in (copy.deepcopy(executor), pickle.loads(pickle.dumps(executor))):
        assert other.workers == 2
        assert other._actors == []


def test_record_imports_no_ray():
    code = (
        "import sys, ffoadapt, ffoadapt_ray\n"
        "assert 'ray' in ffoadapt.executors()\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
