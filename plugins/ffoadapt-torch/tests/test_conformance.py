"""The conformance kit of ffoadapt on this plugin."""

from __future__ import annotations

import numpy as np
import torch

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
