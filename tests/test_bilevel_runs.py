"""What a long run of `ffoadapt.bilevel` needs: trees, batches, checkpoints, an end, errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import Algorithm, OptionError, ParameterError, ShapeError, UnknownPluginError
from ffoadapt.bilevel import BilevelError, BilevelProblem, Goldstein, minimize

NAMES = ("bome", "f2sa", "penalty", "hypergradient", "goldstein")


@pytest.fixture(params=["torch", "jax"])
def array(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes float64 arrays of the framework."""
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    if request.param == "torch":
        import torch

        yield lambda a: torch.tensor(np.array(a, dtype=np.float64))
        return
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        yield lambda a: jnp.array(np.array(a, dtype=np.float64))


def numbers(tree: Any) -> Any:
    return np.asarray(tree)


def upper(x: Any, y: Any) -> Any:
    return ((y - 1.0) ** 2).sum() / 2 + 0.1 * (x**2).sum()


def lower(x: Any, y: Any) -> Any:
    return ((y - x) ** 2).sum() / 2


def start(array: Any) -> tuple[Any, Any]:
    return array([0.5, -1.0]), array([0.0, 2.0])


# -- trees, batches, optimizers


def test_trees_come_back_as_they_went_in(array: Any) -> None:
    x = {"b": (array([0.5]), None), "a": [array(-1.0)]}
    y = (array([[0.0, 2.0]]),)
    result = minimize(
        lambda x, y: ((y[0] - 1) ** 2).sum() + x["a"][0] ** 2,
        lambda x, y: (y[0][0, 0] - x["b"][0][0]) ** 2 + (y[0][0, 1] - x["a"][0]) ** 2,
        x,
        y,
        steps=3,
    )
    assert set(result.x) == {"a", "b"} and isinstance(result.x["b"], tuple)
    assert result.x["b"][1] is None and result.x["a"][0].shape == ()
    assert result.y[0].shape == (1, 2)
    assert float(x["b"][0][0]) == 0.5  # what was given is untouched


def test_a_module_s_parameters_are_a_lower_level() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    A, b = torch.randn(12, 3), torch.randn(12, 1)
    before = [p.detach().clone() for p in model.parameters()]

    def loss(parameters: Any, rows: Any) -> Any:
        return ((torch.func.functional_call(model, parameters, (A[rows],)) - b[rows]) ** 2).mean()

    result = minimize(
        lambda x, y: loss(y, slice(0, 6)),
        lambda x, y: loss(y, slice(6, 12)) + sum((x.exp() * p * p).sum() for p in y.values()),
        torch.tensor(-1.0),
        dict(model.named_parameters()),
        steps=20,
    )
    assert list(result.y) == sorted(dict(model.named_parameters()))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert not any(p.requires_grad for p in result.y.values())
    assert result.value < result.history["value"][0]
    assert result.x.dtype == torch.float32


def rows(array: Any, count: int = 3) -> list[Any]:
    rng = np.random.default_rng(0)
    return [(array(rng.normal(size=2)),) for _ in range(count)]


def moving(x: Any, y: Any, a: Any) -> Any:
    return ((y - a) ** 2).sum() / 2


@pytest.mark.parametrize("name", NAMES)
def test_batches_as_a_list_a_function_and_an_iterator(array: Any, name: str) -> None:
    data, args = rows(array), start(array)
    given = [data, lambda step: data[step % 3], iter(data * 2)]
    found = [
        minimize(moving, lambda x, y, a: ((y - x * a) ** 2).sum(), *args, name, 6, batches=batches)
        for batches in given
    ]
    for result in found[1:]:
        assert result.history["value"] == found[0].history["value"]
        assert np.array_equal(numbers(result.x), numbers(found[0].x))
    assert len(set(found[0].history["value"])) == 6


def test_batches_that_end_and_that_differ_between_the_levels(array: Any) -> None:
    (a,), (b,), _ = rows(array)
    parts = {"upper": (a,), "lower": (b, a)}
    result = minimize(
        moving,
        lambda x, y, b, a: ((y - x * b) ** 2).sum() + (a * y).sum(),
        *start(array),
        steps=9,
        batches=iter([parts] * 4),
    )
    assert result.status == "batches"
    assert len(result.history["step"]) == 4


def test_optimizers_of_the_frameworks_move_x(array: Any) -> None:
    """Adam against its formulas, on f_x = x, whatever the lower level."""
    x, y = start(array)
    if hasattr(x, "detach"):
        torch = pytest.importorskip("torch")
        given: list[Any] = [torch.optim.Adam, lambda p: torch.optim.Adam(p, lr=0.05)]
    else:
        given = [pytest.importorskip("optax").adam(0.05)]
    want, m, v = numbers(x).copy(), 0.0, 0.0
    for k in range(1, 6):
        m, v = 0.9 * m + 0.1 * want, 0.999 * v + 0.001 * want**2
        want = want - 0.05 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    for optimizer in given:
        result = minimize(
            lambda x, y: (x**2).sum() / 2 + 0.0 * y.sum() + (y * y).sum() * 1e-300,
            lambda x, y: ((y - x) ** 2).sum() / 2,
            x,
            y,
            "hypergradient",
            5,
            optimizer=optimizer,
            step_size=0.05,
        )
        assert np.abs(numbers(result.x) - want).max() < 1e-12


def test_momentum_is_a_heavy_ball(array: Any) -> None:
    x, y = start(array)
    result = minimize(
        lambda x, y: (x**2).sum() / 2 + 1e-300 * (y * y).sum(),
        lower,
        x,
        y,
        "hypergradient",
        4,
        step_size=0.1,
        momentum=0.5,
    )
    want, velocity = numbers(x).copy(), 0.0
    for _ in range(4):
        velocity = 0.5 * velocity + want
        want = want - 0.1 * velocity
    assert np.abs(numbers(result.x) - want).max() < 1e-12


def test_history_is_columns(array: Any) -> None:
    frame = pytest.importorskip("pandas").DataFrame
    result = minimize(upper, lower, *start(array), steps=7)
    table = frame(result.history)
    assert table.shape[0] == 7
    assert {"step", "value", "gradient_calls", "seconds", "weight"} <= set(table)
    assert table["step"].tolist() == list(range(7))
    assert table["gradient_calls"].tolist() == [13 * (k + 1) for k in range(7)]
    assert table["value"].iloc[0] == pytest.approx(float(upper(*start(array))))
    assert result.value == pytest.approx(float(upper(result.x, result.y)))


def test_gradient_calls_are_what_the_functions_see() -> None:
    """Counted by the functions themselves, under torch, which calls them every time."""
    torch = pytest.importorskip("torch")
    seen = 0

    def counted(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal seen
            seen += any(a.requires_grad for a in arguments)
            return function(*arguments)

        return call

    args = torch.tensor([0.5, -1.0]), torch.tensor([0.0, 2.0])
    for name in NAMES:
        for central in (False, True) if name in ("f2sa", "penalty") else (False,):
            problem = BilevelProblem(counted(upper), counted(lower), *args)
            algorithm = ffoadapt.get_plugin("algorithm", name)
            if central:
                algorithm = type(algorithm)(central=True)
            state, seen = algorithm.init(problem, *args), 0
            for _ in range(3):
                state, record = algorithm.step(problem, state)
            assert seen == state.gradient_calls == record["gradient_calls"] > 0, name


# -- going on


def optimizer_for(array: Any) -> Any:
    if hasattr(array(0.0), "detach"):
        import torch

        return torch.optim.Adam
    return pytest.importorskip("optax").adam(0.05)


@pytest.mark.parametrize("name", [*NAMES, "adam"])
def test_a_run_that_is_cut_in_two_is_the_same_to_the_bit(
    array: Any, name: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"step_size": 0.02, "momentum": 0.3}
    algorithm = name
    if name == "goldstein":
        options = {"start_radius": 0.3, "block": 4}
    if name == "adam":
        algorithm, options = "hypergradient", {"optimizer": optimizer_for(array)}
    if name in ("f2sa", "penalty"):
        options["penalty_growth"] = 0.5
    data, args = rows(array, 4), start(array)

    def run(steps: int, **more: Any) -> Any:
        return minimize(
            moving,
            lambda x, y, a: ((y - x * a) ** 2).sum() + 0.1 * (y**4).sum(),
            *args,
            algorithm,
            steps,
            **more,
            **options,
        )

    whole = run(11, batches=data)
    first = run(4, batches=data)
    second = run(7, batches=lambda step: data[step % 4], state=first.state)
    path = tmp_path / "run"
    run(4, batches=data, checkpoint=path)
    third = run(11, batches=data, checkpoint=path)
    again = run(11, batches=data, checkpoint=path)  # nothing is left to do
    for result in (second, third, again):
        assert np.array_equal(numbers(result.x), numbers(whole.x))
        assert np.array_equal(numbers(result.y), numbers(whole.y))
        assert result.gradient_calls == whole.gradient_calls
    assert first.history["value"] + second.history["value"] == whole.history["value"]
    for column in set(whole.history) - {"seconds"}:
        np.testing.assert_array_equal(third.history[column], whole.history[column])
    assert third.history["seconds"] == sorted(third.history["seconds"])
    assert again.history["value"] == third.history["value"]


def test_float32_and_trees_survive_a_checkpoint(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    args = {"a": torch.tensor([0.1, 0.7])}, [torch.tensor([[1.5], [2.0]])]
    f = lambda x, y: ((y[0][:, 0] - 1) ** 2).sum()  # noqa: E731
    g = lambda x, y: ((y[0][:, 0] - x["a"]) ** 2).sum()  # noqa: E731
    options = {"momentum": 0.9, "checkpoint": tmp_path / "run.npz", "algorithm": "penalty"}
    minimize(f, g, *args, steps=3, **options)
    result = minimize(f, g, *args, steps=8, **options)
    whole = minimize(f, g, *args, steps=8, algorithm="penalty", momentum=0.9)
    assert result.x["a"].dtype == torch.float32
    assert torch.equal(result.x["a"], whole.x["a"]) and torch.equal(result.y[0], whole.y[0])


def test_a_checkpoint_of_another_problem_and_a_cut_off_one(array: Any, tmp_path: Path) -> None:
    path, args = tmp_path / "run", start(array)
    minimize(upper, lower, *args, steps=3, checkpoint=path)
    other: list[tuple[dict[str, Any], str]] = [
        ({"upper": lambda x, y: upper(x, y) + 1.0}, "values"),
        ({"lower": lambda x, y: 2.0 * lower(x, y)}, "values"),
        # Not seen at the start, but next to it:
        ({"upper": lambda x, y: upper(x, y) + 3.0 * ((y - args[1]) ** 2).sum()}, "values"),
        ({"project": {"y": lambda y: y * 0.5 + args[1] * 0.5}}, "values"),
        ({"algorithm": "f2sa"}, "algorithm"),
        ({"step_size": 0.01}, "options"),
        ({"x": array([0.5]), "y": array([1.0])}, "x"),
    ]
    kept = path.read_bytes()
    for changes, word in other:
        given = {"upper": upper, "lower": lower, "x": args[0], "y": args[1], **changes}
        with pytest.raises(ParameterError, match=f"another run.*{word}"):
            minimize(**given, steps=5, checkpoint=path)
        assert path.read_bytes() == kept
    for damaged in (kept[: len(kept) // 2], b"", b"no checkpoint"):
        path.write_bytes(damaged)
        with pytest.raises(ParameterError, match="no whole checkpoint"):
            minimize(upper, lower, *args, steps=5, checkpoint=path)
        assert path.read_bytes() == damaged
    with pytest.raises(ParameterError, match="does not exist"):
        minimize(upper, lower, *args, steps=5, checkpoint=tmp_path / "nowhere" / "run")


def test_a_state_of_another_algorithm_or_shape_is_refused(array: Any) -> None:
    args = start(array)
    first = minimize(upper, lower, *args, steps=2)
    with pytest.raises(ParameterError, match="not that of F2sa"):
        minimize(upper, lower, *args, "f2sa", 2, state=first.state)
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        minimize(upper, lower, array([1.0]), array([1.0]), steps=2, state=first.state)
    with pytest.raises(ParameterError, match=r"the \.state of"):
        minimize(upper, lower, *args, steps=2, state=first)


# -- the end of a run


def test_a_callback_and_a_time_limit_end_a_run(array: Any) -> None:
    seen = []

    def stop(state: Any, record: Any) -> bool:
        seen.append((state.step, record["value"]))
        return state.step == 3

    result = minimize(upper, lower, *start(array), steps=50, callback=stop)
    assert result.status == "stopped" and [step for step, _ in seen] == [1, 2, 3]
    assert [value for _, value in seen] == result.history["value"]

    def wait(state: Any, record: Any) -> None:
        time.sleep(0.02)

    result = minimize(upper, lower, *start(array), steps=10_000, callback=wait, time_limit=0.3)
    assert result.status == "time_limit" and 1 <= len(result.history["step"]) < 100
    assert result.seconds >= 0.3
    assert minimize(upper, lower, *start(array), steps=2, time_limit=60).status == "steps"
    assert minimize(upper, lower, *start(array), steps=0).gradient_calls == 0


def test_ctrl_c_returns_what_there_is(array: Any, tmp_path: Path) -> None:
    """A signal, wherever it comes; the checkpoint is written too."""
    path = tmp_path / "run"
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])

    def first(state: Any, record: Any) -> None:
        if state.step == 1:
            timer.start()

    args = start(array)
    # raise_signal from a thread is handled in the main one
    result = minimize(upper, lower, *args, steps=10**9, callback=first, checkpoint=path)
    assert result.status == "interrupted"
    count = result.state.step
    assert count >= 1 and len(result.history["value"]) == count
    whole = minimize(upper, lower, *args, steps=count)
    assert np.array_equal(numbers(result.x), numbers(whole.x))
    resumed = minimize(upper, lower, *args, steps=count, checkpoint=path)
    assert np.array_equal(numbers(resumed.x), numbers(whole.x))


# -- bad input


def test_what_is_no_bilevel_problem(array: Any) -> None:
    x, y = start(array)
    with pytest.raises(ParameterError, match="upper function ignores y"):
        minimize(lambda x, y: (x**2).sum(), lower, x, y)
    with pytest.raises(ParameterError, match="lower function ignores x"):
        minimize(upper, lambda x, y: (y**2).sum(), x, y)
    with pytest.raises(ParameterError, match="upper function ignores y"):
        minimize(lambda x, y: (x**2).sum(), lambda x: 2.0 * x, x, algorithm="hypergradient")
    # A gradient that is zero by chance at the start is none of these.
    zero = array([0.0, 0.0])
    minimize(lambda x, y: (y**2).sum(), lambda x, y: ((y - x) ** 2).sum(), zero, zero, steps=1)


def test_an_answer_that_ignores_x_is_refused(array: Any) -> None:
    x, fixed = array([0.7, -0.4]), array([1.0, 2.0])
    with pytest.raises(ParameterError, match="lower function ignores x: what it gives"):
        minimize(upper, lambda x: 1.0 * fixed, x, algorithm="hypergradient")
    # An answer that moves in jumps, as that of a linear program, is one all the same.
    jumps = lambda x: 3.0 * (abs(x + 0.01) / (x + 0.01))  # noqa: E731
    result = minimize(
        lambda x, y: (x * y).sum(), jumps, x, algorithm="hypergradient", steps=9, step_size=0.1
    )
    assert result.status == "steps" and np.abs(numbers(result.x)).max() < 0.4


def test_an_answer_that_is_detached_is_refused() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([0.3, 2.0])
    with pytest.raises(ParameterError, match="or is detached"):
        minimize(upper, lambda x: x.detach() * 2.0, x, algorithm="goldstein")


def test_a_start_that_is_not_finite_is_refused(array: Any) -> None:
    x, y = start(array)
    with pytest.raises(ParameterError, match="array 0 of y is not finite at the start"):
        minimize(upper, lower, x, array([0.0, np.inf]))
    with pytest.raises(ParameterError, match="array 0 of x is not finite at the start"):
        minimize(upper, lower, array([np.nan, 1.0]), y)


def test_a_run_that_grows_without_bound_ends_with_its_last_finite_state(array: Any) -> None:
    """Warnings are errors here: NumPy's overflow in the lower level is none to raise."""
    with pytest.raises(BilevelError, match=r"at step \d+ the upper function is inf") as caught:
        minimize(upper, lower, *start(array), "hypergradient", 4000, step_size=5.0)
    assert np.isfinite(numbers(caught.value.result.x)).all()


def test_names_and_options_that_do_not_exist(array: Any) -> None:
    args = start(array)
    with pytest.raises(UnknownPluginError, match=r"bomb.*installed: bome.*Did you mean 'bome'"):
        minimize(upper, lower, *args, "bomb")
    with pytest.raises(OptionError, match=r"no option 'stepsize'.*Did you mean 'step_size'.*eta"):
        minimize(upper, lower, *args, stepsize=0.1)
    with pytest.raises(OptionError, match="algorithm is a int"):
        minimize(upper, lower, *args, 3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"the class Goldstein; give Goldstein\(\)"):
        minimize(upper, lower, *args, Goldstein)  # type: ignore[arg-type]
    foreign = pytest.importorskip("optax").adam(0.1) if hasattr(args[0], "detach") else None
    if foreign is not None:
        with pytest.raises(OptionError, match="cannot start from the arrays of x, torch"):
            minimize(upper, lower, *args, steps=1, optimizer=foreign)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("bome", "step_size", 0.0),
        ("bome", "step_size", {"x": 1.0}),
        ("bome", "step_size", {"x": 1.0, "y": -1.0}),
        ("bome", "step_size", float("nan")),
        ("bome", "momentum", 2.0),
        ("bome", "lower_steps", 0),
        ("bome", "lower_steps", 2.5),
        ("bome", "barrier", "log"),
        ("bome", "eta", 1.5),
        ("f2sa", "penalty", -1.0),
        ("penalty", "penalty_growth", "fast"),
        ("hypergradient", "tolerance", 1.0),
        ("hypergradient", "optimizer", "adam"),
        ("goldstein", "block", 1),
        ("goldstein", "delta", True),
    ],
)
def test_options_out_of_range(array: Any, name: str, option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=option):
        minimize(upper, lower, *start(array), name, 1, **{option: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"time_limit": 0}, "time_limit"),
        ({"project": lambda x: x}, "project"),
        ({"project": {"z": lambda x: x}}, "project"),
        ({"project": {"x": 1.0}}, "project"),
        ({"batches": 7}, "batches"),
        ({"batches": []}, "batches is empty"),
        ({"upper": 3.0}, "upper is a float"),
        ({"callback": 2}, "callback is a int"),
        ({"checkpoint": 5}, "checkpoint is a int"),
        ({"x": 1.0}, "x.*float"),
        ({"x": []}, "x holds no array"),
        ({"y": "text"}, "y.*str"),
    ],
)
def test_arguments_that_make_no_run(array: Any, arguments: dict[str, Any], message: str) -> None:
    x, y = start(array)
    given = {"upper": upper, "lower": lower, "x": x, "y": y, **arguments}
    with pytest.raises(ffoadapt.FFOAdaptError, match=message):
        minimize(**given)


def test_integers_other_frameworks_and_numpy_are_refused(array: Any) -> None:
    x, y = start(array)
    whole = x.int() if hasattr(x, "detach") else x.astype("int32")
    with pytest.raises(ParameterError, match="int32"):
        minimize(upper, lower, whole, y)
    with pytest.raises(ffoadapt.UnsupportedProblemError, match="torch or JAX"):
        minimize(upper, lower, np.ones(2), np.ones(2))
    if find_spec("torch") and not hasattr(x, "detach"):
        import torch

        with pytest.raises(ParameterError, match="mixes frameworks"):
            minimize(upper, lower, x, torch.ones(2))
    with pytest.raises(ParameterError, match="lower batch is a builtins"):
        minimize(lambda x, y, *_: upper(x, y), lower, x, y, batches=[{"lower": ("text",)}])


def test_an_algorithm_says_which_lower_levels_it_takes(array: Any) -> None:
    x, _ = start(array)
    with pytest.raises(ParameterError, match=r"callable x -> y.*goldstein, hypergradient$"):
        minimize(upper, lambda x: 2.0 * x, x, algorithm="bome")


def test_shapes_that_change_are_refused_and_nothing_is_lost(array: Any) -> None:
    x, y = start(array)
    longer = array([1.0, 2.0, 3.0])
    calls = 0

    def odd(x: Any) -> Any:
        nonlocal calls
        calls += 1
        return x if calls < 4 else longer

    with pytest.raises(BilevelError, match=r"step 3 failed.*\(3,\).*\(2,\)") as caught:
        minimize(upper, lower, x, y, steps=9, project={"x": odd})
    assert isinstance(caught.value.__cause__, ShapeError)
    assert caught.value.result.state.step == 3
    data = [(array([1.0, 2.0]),), (array([1.0, 2.0]), array(1.0))]
    if hasattr(x, "detach"):  # JAX compiles a lower level once, with its shapes
        import torch

        asked = 0

        def answer(x: Any) -> Any:
            nonlocal asked
            asked += 1
            return 0.5 * x if asked < 9 else torch.cat([x, x])

        with pytest.raises(BilevelError, match=r"y of shape \[\(4,\)\].*\[\(2,\)\]"):
            minimize(
                lambda x, y: ((y - 1.0) ** 2).sum(), answer, x, algorithm="hypergradient", steps=30
            )
    with pytest.raises(BilevelError, match="holds 2 arrays; earlier ones held 1"):
        minimize(
            lambda x, y, a, *more: moving(x, y, a),
            lambda x, y, a, *more: ((y - x * a) ** 2).sum(),
            x,
            y,
            batches=data,
        )


@pytest.mark.parametrize("name", NAMES)
def test_nan_on_the_way_keeps_the_last_finite_state(array: Any, name: str, tmp_path: Path) -> None:
    """f is NaN where x[0] < -0.5, which steps of 0.3 reach in a few steps."""
    x, y = array([0.5, -1.0]), array([0.5, -1.0])
    options = {"start_radius": 3.0} if name == "goldstein" else {"step_size": 0.2}
    path = tmp_path / "run"

    def f(x: Any, y: Any) -> Any:
        return (x[0] + 0.5) ** 0.5 * 2 + ((y + 3.0) ** 2).sum() + x[0]

    with pytest.raises(BilevelError, match=r"at step \d+.*last finite.*Smaller") as caught:
        minimize(f, lower, x, y, name, 200, checkpoint=path, **options)
    result = caught.value.result
    assert result.status == "failed"
    assert np.isfinite(numbers(result.x)).all() and np.isfinite(numbers(result.y)).all()
    assert f"after {result.state.step} steps" in str(caught.value) or result.state.step == 0
    assert len(result.history["value"]) == result.state.step if result.history else True
    assert np.isfinite(result.history.get("value", [0.0])).all()
    assert str(path) in str(caught.value) and path.exists()
    if name != "goldstein":  # whose x is not where it looks
        assert np.isfinite(float(f(result.x, result.y)))


def test_a_function_that_fails_late_loses_nothing(array: Any) -> None:
    calls = 0

    def data(step: int) -> Any:
        if step == 4:
            raise RuntimeError("the disk is full")
        return ()

    with pytest.raises(BilevelError, match="step 4 failed: RuntimeError: the disk is full") as late:
        minimize(upper, lower, *start(array), steps=9, batches=data)
    assert late.value.result.state.step == 4 and late.value.result.status == "failed"

    def broken(x: Any, y: Any) -> Any:
        raise RuntimeError("at once")

    with pytest.raises(RuntimeError, match="at once"):
        minimize(broken, lower, *start(array), steps=9)
    assert calls == 0


# -- algorithms as plugins


@dataclass(frozen=True)
class Alternating(Algorithm):
    """A step in y, then a step in x; for tests."""

    rate: float = 0.1

    def start(self, problem: Any, x: Any, y: Any) -> Any:
        return {"count": 0}

    def update(self, problem: Any, x: Any, y: Any, memory: Any, batch: Any) -> Any:
        y = problem.descend(x, y, batch, self.rate)
        value, gradient, _ = problem.upper(x, y, batch)
        x = problem.plus(x, gradient, -self.rate)
        done = memory["count"] == 5
        return x, y, {"count": memory["count"] + 1, "done": done}, {"value": float(value)}


def test_an_algorithm_of_one_s_own(array: Any) -> None:
    result = minimize(upper, lower, *start(array), Alternating(), 50, rate=0.2)
    assert result.status == "converged" and result.state.step == 6
    assert result.gradient_calls == 12
    x, y = (numbers(a) for a in start(array))
    for _ in range(6):
        y = y - 0.2 * (y - x)
        x = x - 0.2 * 0.2 * x
    assert np.abs(numbers(result.x) - x).max() < 1e-14


def test_algorithms_are_listed_and_light() -> None:
    assert set(NAMES) <= set(ffoadapt.algorithms())
    listed = {p.name: p for p in ffoadapt.plugins() if p.kind == "algorithm"}
    assert listed["bome"].state == "ready" and listed["bome"].distribution == "ffoadapt"
    command = [sys.executable, "-m", "ffoadapt", "plugins", "--kind", "algorithm", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [row for row in json.loads(done.stdout) if row["kind"] == "algorithm"]
    assert {row["name"] for row in rows} == set(ffoadapt.algorithms())
    code = "import sys, ffoadapt; ffoadapt.algorithms(); print('ffoadapt.bilevel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert isinstance(ffoadapt.get_plugin("algorithm", "goldstein"), Goldstein)


def test_an_algorithm_of_a_plugin_is_found_by_its_name(array: Any) -> None:
    spec = ffoadapt.AlgorithmSpec("alternating", load=Alternating)
    from ffoadapt._plugins.registry import registry

    registry.add(spec)
    try:
        assert "alternating" in ffoadapt.algorithms()
        assert minimize(upper, lower, *start(array), "alternating", 2).gradient_calls == 4
    finally:
        del registry._entries["algorithm"]["alternating"]
