"""One layer in many threads, in forked and spawned workers, copied and pickled."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
import textwrap
import threading

import cvxpy as cp
import numpy as np
import pytest
import torch

import ffoadapt
import ffoadapt_torch

X, P = cp.Variable(2), cp.Parameter(2)
PROBLEM = cp.Problem(cp.Minimize(cp.sum_squares(X - P)), [cp.sum(X) <= 1])
LAYERS = {
    "Layer": lambda: ffoadapt.Layer(PROBLEM, [P], [X], solver="clarabel"),
    "CvxpyLayer": lambda: ffoadapt_torch.CvxpyLayer(PROBLEM, [P], [X], solver="osqp"),
    "threads": lambda: ffoadapt.Layer(PROBLEM, [P], [X], executor="threads"),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]()


def exact(p):
    """Onto the half-space of points with sum at most 1."""
    return p - np.maximum(p.sum(-1, keepdims=True) - 1.0, 0.0) / 2.0


def check(layer, seed=0):
    p = np.random.default_rng(seed).normal(size=(5, 2)) + 1.0
    value = torch.tensor(p, requires_grad=True)
    (x,) = layer(value)
    x[:, 0].sum().backward()
    active = p.sum(-1) > 1.0
    expected = np.where(active[:, None], [0.5, -0.5], [1.0, 0.0])
    np.testing.assert_allclose(x.detach(), exact(p), atol=1e-5)
    np.testing.assert_allclose(value.grad, expected, atol=1e-5)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_copies(layer, copied):
    check(layer)  # with sessions and pools in it
    other = copied(layer)
    check(other)
    check(layer)


def test_threads(layer):
    errors = []

    def work(seed):
        try:
            for k in range(5):
                check(layer, 10 * seed + k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_backward_in_another_thread(layer):
    value = torch.tensor([[1.0, 1.0], [2.0, 0.0]], requires_grad=True)
    (x,) = layer(value)
    thread = threading.Thread(target=lambda: x[:, 0].sum().backward())
    thread.start()
    thread.join()
    np.testing.assert_allclose(value.grad, [[0.5, -0.5]] * 2, atol=1e-5)


class Solved(torch.utils.data.Dataset):
    """A data set whose items are solutions, as decision-focused learning precomputes them."""

    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return 6

    def __getitem__(self, k):
        return self.layer(torch.tensor([[float(k), 1.0], [1.0, 0.0]], dtype=torch.float64))[0]


def in_workers(layer, context):
    loader = torch.utils.data.DataLoader(
        Solved(layer), batch_size=2, num_workers=2, multiprocessing_context=context, timeout=120
    )
    found = torch.cat([batch[:, 0] for batch in loader])
    points = np.array([[float(k), 1.0] for k in range(6)])
    np.testing.assert_allclose(found, exact(points), atol=1e-5)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
def test_forked_data_loader_workers(layer):
    check(layer)  # threads started before the fork are gone after it
    in_workers(layer, "fork")


def test_spawned_data_loader_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import cvxpy as cp, numpy as np, torch, ffoadapt_torch

            class Solved(torch.utils.data.Dataset):
                def __init__(self):
                    x, p = cp.Variable(2), cp.Parameter(2)
                    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p)), [cp.sum(x) <= 1])
                    self.layer = ffoadapt_torch.CvxpyLayer(problem, [p], [x])

                def __len__(self):
                    return 4

                def __getitem__(self, k):
                    return self.layer(torch.tensor([k / 4, 1.0], dtype=torch.float64))[0]

            if __name__ == "__main__":
                loader = torch.utils.data.DataLoader(
                    Solved(), batch_size=2, num_workers=1, multiprocessing_context="spawn"
                )
                found = torch.cat(list(loader)).numpy()
                expected = [[k / 8, 1.0 - k / 8] for k in range(4)]
                np.testing.assert_allclose(found, expected, atol=1e-6)
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
