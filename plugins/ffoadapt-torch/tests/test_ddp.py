"""Two processes that solve their own: the weights are those of one process with all data."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "ddp.py"

pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed"),
    pytest.mark.skipif(not EXAMPLE.exists(), reason="examples/ddp.py is only in the repository"),
]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("ffoadapt_example_ddp", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_ranks_train_as_one_process(example, tmp_path):
    result = tmp_path / "result"
    command = [sys.executable, str(EXAMPLE), "--world", "2", "--epochs", "3", "--result", result]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (losses, weight), (others, other) = (
        torch.load(f"{result}.{rank}", weights_only=True) for rank in (0, 1)
    )
    assert losses == others
    assert torch.equal(weight, other)

    threads = torch.get_num_threads()
    try:
        single, expected = example.train(0, 1, 3)
    finally:
        torch.set_num_threads(threads)
    # Rank r has samples r, r + 2, ...: the two halves of a step are the one batch, reordered.
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(single), atol=1e-9, rtol=0)
    torch.testing.assert_close(weight, expected, atol=1e-9, rtol=0)
    assert losses[-1] < losses[0]
