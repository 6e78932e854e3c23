"""Hock and Schittkowski's problem 71 as a layer, in torch and in JAX.

    minimize    k y0 y3 (y0 + y1 + y2) + y2
    subject to  y0 y1 y2 y3 >= area,  |y|^2 = r,  1 <= y <= 5

and the gradient of the smallest y in k, area and r, without a second derivative.

    python examples/hs71.py [--solver ipopt]
"""

import argparse

import ffoadapt


def cost(p, y):
    return p["k"] * y[0] * y[3] * y[:3].sum() + y[2]


def make(solver):
    return ffoadapt.SmoothLayer(
        cost,
        inequalities=lambda p, y: p["area"] - y.prod(),
        equalities=lambda p, y: (y * y).sum() - p["r"],
        bounds=(1.0, 5.0),
        start=[1.0, 5.0, 5.0, 1.0],
        solver=solver,
    )


def in_torch(layer):
    import torch

    p = {"k": 1.0, "area": 25.0, "r": 40.0}
    p = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in p.items()}
    y = layer(p)
    y[3].backward()
    return y.tolist(), {k: float(v.grad) for k, v in p.items()}


def in_jax(layer):
    import jax

    jax.config.update("jax_enable_x64", True)
    p = {"k": 1.0, "area": 25.0, "r": 40.0}
    p = {k: jax.numpy.asarray(v) for k, v in p.items()}
    gradient = jax.jit(jax.grad(lambda p: layer(p)[3]))(p)
    return layer(p).tolist(), {k: float(v) for k, v in gradient.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solver", default="auto", help="one of ffoadapt.solvers('smooth')")
    layer = make(parser.parse_args().solver)
    for name, run in (("torch", in_torch), ("JAX", in_jax)):
        try:
            y, gradient = run(layer)
        except ImportError as error:
            print(f"{name}: skipped, {error}")
            continue
        print(f"{name}: y = {[round(v, 6) for v in y]}")
        print("  dy3 by " + ", ".join(f"{k} {gradient[k]:.8f}" for k in ("k", "area", "r")))


if __name__ == "__main__":
    main()
