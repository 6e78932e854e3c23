"""The conformance kit of ffoadapt on this plugin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ffoadapt
from ffoadapt.testing import FrameworkSuite


class TestTorch(FrameworkSuite):
    framework = "torch"
    devices = ("cpu",)

    def array(self, value, dtype):
        return torch.tensor(value, dtype=getattr(torch, dtype))

    def to_numpy(self, array):
        return array.detach().cpu().numpy()

    def gradient(self, function, arrays):
        leaves = [array.detach().clone().requires_grad_() for array in arrays]
        return torch.autograd.grad(function(*leaves), leaves)

    def sparse(self, rows, columns, values, shape):
        indices = torch.from_numpy(np.stack([rows, columns]).astype(np.int64))
        return torch.sparse_coo_tensor(indices, values, shape, check_invariants=False)

    def to_device(self, array, device):
        return array.to(device)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_outputs_may_be_written_to(batch: tuple[int, ...]) -> None:
    """The gradient at a solution does not change with what becomes of the solution in place."""
    rng = np.random.default_rng(0)
    G, h = torch.tensor(rng.standard_normal((6, 4))), torch.tensor(rng.random((*batch, 6)))
    P = (2.0 * torch.eye(4, dtype=torch.float64)).requires_grad_()
    q = torch.tensor(rng.standard_normal((*batch, 4)), requires_grad=True)

    def gradient(function):
        found = ffoadapt.qp(P, q, G, h)
        return torch.autograd.grad(function(found), (P, q))

    expected = gradient(lambda found: 2.0 * found.x.sum() + 3.0 * found.z_ineq.sum())
    changed = gradient(lambda found: found.x.mul_(2.0).sum() + found.z_ineq.mul_(3.0).sum())
    for one, other in zip(expected, changed, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)
