"""Data-parallel training through an optimization layer: each rank solves the programs of its share.

    python examples/ddp.py                                       # two processes on this machine
    torchrun --nproc_per_node=4 examples/ddp.py --launched       # or started by torchrun

A linear model predicts the returns of assets from features; the layer turns a prediction into the
best long-only portfolio; the loss is the regret against the portfolio of the true returns. Every
rank has the whole model and layer, and a share of the data; DistributedDataParallel averages the
gradients of the weights over the ranks. The layer itself communicates nothing and has no state.
"""

from __future__ import annotations

import argparse
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import ffoadapt

ASSETS, FEATURES, SAMPLES, BATCH = 8, 5, 64, 16


def allocate(returns: torch.Tensor) -> torch.Tensor:
    """Portfolios (B, n): maximize returns'x - |x|^2 / 2 subject to x >= 0 and sum x = 1."""
    n = returns.shape[-1]
    eye = torch.eye(n, dtype=returns.dtype)
    one = torch.ones(1, dtype=returns.dtype)
    # Serial: the ranks are the parallelism, and have one core each.
    return ffoadapt.qp(
        eye, -returns, -eye, 0.0 * eye[0], one.expand(1, n), one, executor="serial"
    ).x


def regret(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """How much worse the portfolio of the prediction does than that of the truth; mean over B."""

    def utility(x: torch.Tensor) -> torch.Tensor:
        return (true * x).sum(-1) - 0.5 * (x * x).sum(-1)

    return (utility(allocate(true)) - utility(allocate(predicted))).mean()


def make_data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    weights = torch.randn(FEATURES, ASSETS, generator=generator, dtype=torch.float64)
    noise = torch.randn(SAMPLES, ASSETS, generator=generator, dtype=torch.float64)
    return TensorDataset(features, features @ weights + 0.1 * noise)


def train(rank: int, world: int, epochs: int) -> tuple[list[float], torch.Tensor]:
    """The losses (means over all ranks) and the trained weights, equal on every rank."""
    torch.manual_seed(0)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    model: torch.nn.Module = torch.nn.Linear(FEATURES, ASSETS, dtype=torch.float64)
    if world > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    data = make_data()
    sampler = DistributedSampler(data, world, rank, shuffle=False)
    loader = DataLoader(data, batch_size=BATCH // world, sampler=sampler)
    losses = []
    for _ in range(epochs):
        for features, true in loader:
            optimizer.zero_grad()
            loss = regret(model(features), true)
            loss.backward()
            optimizer.step()
            mean = loss.detach().clone()
            if world > 1:
                dist.all_reduce(mean)
            losses.append(float(mean) / world)
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return losses, inner.weight.detach()


def run(rank: int, world: int, port: int, epochs: int, result: str | None = None) -> None:
    """One process: join the group, train, and let rank 0 report."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    try:
        losses, weight = train(rank, world, epochs)
        print(f"rank {rank}: regret {losses[0]:.4f} -> {losses[-1]:.4f}", flush=True)
        if result:
            torch.save((losses, weight), f"{result}.{rank}")
        dist.barrier()  # no rank leaves while another still listens to it
    finally:
        dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--world", type=int, default=2, help="processes to start")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--result", help="write losses and weights to RESULT.<rank>")
    parser.add_argument("--launched", action="store_true", help="torchrun started this process")
    arguments = parser.parse_args()
    if arguments.launched:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        run(rank, world, 0, arguments.epochs, arguments.result)
    else:
        given = (arguments.world, free_port(), arguments.epochs, arguments.result)
        mp.spawn(run, args=given, nprocs=arguments.world)


if __name__ == "__main__":
    main()
