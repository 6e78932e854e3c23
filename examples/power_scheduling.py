"""Scheduling generation for tomorrow's load: a forecast trained on its errors, then on its cost.

    python examples/power_scheduling.py --data path/to/folder

A network forecasts the 24 loads of the next day, as a normal distribution each hour. The schedule z
minimizes what is then expected: 50 for each GW short, 0.5 for each GW over, half of the squared
deviation, with ramps |z_i - z_(i-1)| <= 0.4. Task and data are those of "Task-based End-to-end
Model Learning in Stochastic Optimization" (Donti, Amos and Kolter, NeurIPS 2017), whose task-based
network costs 38.6 % less than its RMSE network. The folder holds pjm_load_data_*.txt of the
authors' code, github.com/locuslab/e2e-model-learning.
"""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
from kit import FRAMEWORKS, arguments, bars, table

import ffoadapt

HOURS = 24
SHORT, OVER, RAMP = 50.0, 0.5, 0.4
FILES = ("pjm_load_data_2008-11.txt", "pjm_load_data_2012-16.txt")
HIDDEN = 100
PACE = 30.0  # so many times faster than weights do widths learn
NEWTON = 8  # steps to a schedule
FIT = 100  # steps on the squared error: more raise that of the held-out days
STEPS, BATCH, RATE = 300, 128, 1e-4  # end to end
EVERY = 20  # steps between two looks at the held-out days


def days(path: Path) -> tuple[Any, Any]:
    """Features (N, 149), the day's own temperatures among them, and loads (N, 24)."""
    import pandas as pd
    from pandas.tseries.holiday import USFederalHolidayCalendar

    raw = np.loadtxt(path)
    frame = pd.DataFrame(raw, columns=["time", "load", "temperature"]).drop_duplicates("time")
    stamps = pd.to_datetime(frame["time"], unit="s", utc=True).dt.tz_convert("America/New_York")
    frame["date"], frame["hour"] = stamps.dt.date, stamps.dt.hour

    def table(name: str) -> Any:
        return (
            frame.pivot_table(index="date", columns="hour", values=name).bfill(axis=1).ffill(axis=1)
        )

    loads, warm = table("load"), table("temperature").to_numpy()
    free = set(USFederalHolidayCalendar().holidays("2008-01-01", "2016-12-31").date)
    calendar = []
    for date in loads.index:
        turn = 2 * np.pi * date.timetuple().tm_yday / 365
        noon = pd.Timestamp(
            datetime.datetime.combine(date, datetime.time(12)), tz="America/New_York"
        )
        summer = bool(noon.dst())
        calendar.append([date.isoweekday() >= 6, date in free, summer, np.cos(turn), np.sin(turn)])
    loads, known = loads.to_numpy(), np.array(calendar, dtype=float)
    before, after = warm[:-1], warm[1:]
    features = np.c_[loads[:-1], before, before**2, after, after**2, after**3, known[1:]]
    return features, loads[1:]


def load(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Days to train on, held out, and to test on (the last fifth); scaled by the training days."""
    parts = [days(folder / name) for name in FILES]
    features, loads = (np.concatenate(part) for part in zip(*parts, strict=True))
    count = int(0.8 * len(loads))
    order = np.random.default_rng(0).permutation(count)
    rows = {
        "train": order[: int(0.8 * count)],
        "held out": order[int(0.8 * count) :],
        "test": np.arange(count, len(loads)),
    }
    mean, width = features[rows["train"]].mean(axis=0), features[rows["train"]].std(axis=0)
    return {name: ((features[r] - mean) / width, loads[r]) for name, r in rows.items()}


class Task:
    """Forecast, schedule and cost, in a framework's arrays."""

    def __init__(self, kit: Any, parts: dict[str, tuple[Any, Any]]) -> None:
        self.kit = kit
        self.parts = {name: tuple(map(kit.array, part)) for name, part in parts.items()}
        ramps = np.eye(HOURS - 1, HOURS) - np.eye(HOURS - 1, HOURS, 1)
        self.rows = kit.array(np.r_[ramps, -ramps])
        self.limits = kit.array(np.full(2 * HOURS - 2, RAMP))
        self.eye = kit.array(np.eye(HOURS))

    def start(self, parts: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
        """Least squares, and beside it a network of one hidden layer that adds nothing yet."""
        features, loads = parts["train"]
        rng = np.random.default_rng(0)
        count = features.shape[1]
        linear = np.linalg.lstsq(np.c_[features, np.ones(len(features))], loads, rcond=None)[0]
        return {
            name: self.kit.array(array)
            for name, array in {
                "linear": linear[:-1],
                "constant": linear[-1],
                "into": rng.normal(size=(count, HIDDEN)) / count**0.5,
                "bias": np.zeros(HIDDEN),
                "out": np.zeros((HIDDEN, HOURS)),
                "width": np.zeros(HOURS),
            }.items()
        }

    def forecast(self, model: dict[str, Any], features: Any) -> Any:
        """Means (B, 24)."""
        hidden = self.kit.clip(features @ model["into"] + model["bias"], 0.0)
        return features @ model["linear"] + model["constant"] + hidden @ model["out"]

    def schedule(self, model: dict[str, Any], features: Any) -> Any:
        """z (B, 24), by Newton's method: each step is a batch of quadratic programs.

        The last step alone is differentiated, at a z that no longer moves: that is the derivative
        of the solution.
        """
        mean = self.forecast(model, features)
        width = self.kit.xp.exp(PACE * model["width"]) + 0.0 * mean
        at, fixed_mean, fixed_width = map(self.kit.constant, (mean, mean, width))
        for _ in range(NEWTON):
            at = self.kit.constant(self.newton(at, fixed_mean, fixed_width))
        return self.newton(at, mean, width)

    def newton(self, at: Any, mean: Any, width: Any) -> Any:
        """The minimizer of the expected cost's quadratic model at z = ``at``."""
        u = (at - mean) / width
        slope = (SHORT + OVER) * self.kit.ndtr(u) - SHORT
        density = self.kit.xp.exp(-0.5 * u * u) / (width * math.sqrt(2 * math.pi))
        curvature = (SHORT + OVER) * density
        P = (curvature + 1.0)[..., None] * self.eye
        return ffoadapt.qp(P, slope - curvature * at - mean, self.rows, self.limits).x

    def cost(self, z: Any, loads: Any) -> Any:
        """Mean over the days of the cost of a day."""
        off = z - loads
        short, over = self.kit.clip(-off, 0.0), self.kit.clip(off, 0.0)
        return (SHORT * short + OVER * over + 0.5 * off * off).sum(-1).mean()

    def judged(self, model: dict[str, Any], part: str) -> tuple[float, float]:
        """Cost a day, and root mean square error of the forecast."""
        features, loads = self.parts[part]
        error = ((self.forecast(model, features) - loads) ** 2).mean() ** 0.5
        return float(self.cost(self.schedule(model, features), loads)), float(error)

    def with_widths(self, model: dict[str, Any], part: str, factor: float = 1.0) -> dict[str, Any]:
        """The model, its widths the errors on a part times a factor."""
        features, loads = self.parts[part]
        width = ((self.forecast(model, features) - loads) ** 2).mean(0) ** 0.5
        return {**model, "width": self.kit.xp.log(factor * width) / PACE}

    def squared_error(self, model: dict[str, Any]) -> Any:
        """Of the forecast on the training days."""
        features, loads = self.parts["train"]
        return ((self.forecast(model, features) - loads) ** 2).mean()

    def train(self, bar: Any, model: dict[str, Any], steps: int) -> Any:
        """`minimize` over the model through its schedules: the path, and the seconds."""
        features, loads = self.parts["train"]

        def batch(step: int) -> tuple[Any, Any]:
            chosen = np.random.default_rng((1, step)).integers(0, len(features), BATCH)
            rows = self.kit.integers(chosen)
            return features[rows], loads[rows]

        _, path, seconds = bar.run(
            "end to end",
            lambda model, z, features, loads: self.cost(z, loads),
            lambda model, features, loads: self.schedule(model, features),
            model,
            None,
            every=min(EVERY, steps),
            algorithm="hypergradient",
            steps=steps,
            optimizer=self.kit.adam(RATE),
            batches=batch,
        )
        return [
            {name: self.kit.array(a) for name, a in point.items()} for point, _ in path
        ], seconds


def draw(task: Task, curve: list[Any], models: dict[str, dict[str, Any]], output: Path) -> None:
    """Left: cost on the way. Right: a day of the test years, as forecast and as scheduled."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    steps, held, test = zip(*curve, strict=True)
    left.plot(steps, held, label="held-out days")
    left.plot(steps, test, label="test days")
    left.set(xlabel="step", ylabel="cost a day", ylim=(0, None))
    left.legend()
    features, loads = task.parts["test"]
    right.plot(np.asarray(loads[0]), "k", label="load")
    for name, model in models.items():
        right.plot(np.asarray(task.schedule(model, features[:1])[0]), label=name)
    right.plot(np.asarray(task.forecast(models["RMSE"], features[:1])[0]), "C0:", label="its mean")
    right.set(xlabel="hour of the first test day", ylabel="load and schedules (GW in the file)")
    right.legend(fontsize="small")
    figure.savefig(output, dpi=120)


def main() -> None:
    parser = arguments(__doc__ or "", "power_scheduling.png")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the two files")
    options = parser.parse_args()
    if missing := [name for name in FILES if not (options.data / name).is_file()]:
        parser.error(f"{options.data} has no {' and no '.join(missing)}")
    kit = FRAMEWORKS[options.framework]()
    parts = load(options.data)
    task = Task(kit, parts)
    fit = max(2, int(options.share * FIT))
    rmse = kit.fit(task.squared_error, task.start(parts), 1e-3, fit)
    held = task.with_widths(rmse, "held out")
    best = min(
        (task.with_widths(rmse, "held out", factor) for factor in (1.0, 1.2, 1.4, 1.6, 2.0)),
        key=lambda model: task.judged(model, "test")[0],
    )
    rmse = task.with_widths(rmse, "train")
    with bars() as bar:
        path, seconds = task.train(bar, rmse, max(2, int(options.share * STEPS)))
    costs = [
        [task.judged(model, part)[0] for part in ("held out", "test")] for model in [rmse, *path]
    ]
    chosen = path[int(np.argmin([held for held, _ in costs[1:]]))]
    models = {
        "RMSE": rmse,
        "RMSE, widths of the held-out errors": held,
        "the same, as wide as is best on the test days": best,
        "end to end": chosen,
    }
    base, rows = task.judged(rmse, "test")[0], []
    for name, model in models.items():
        (on_held, _), (cost, error) = (task.judged(model, part) for part in ("held out", "test"))
        change = f"{100 * (1 - cost / base):.1f} %"
        rows.append([name, f"{on_held:.3f}", f"{cost:.3f}", change, f"{error:.4f}"])
    print(table(("model", "held-out cost", "test cost", "below RMSE", "test RMSE"), rows))
    print(f"{seconds:.1f} s of training end to end")
    curve = [(min(EVERY * k, STEPS), *pair) for k, pair in enumerate(costs)]
    draw(task, curve, {name: models[name] for name in ("RMSE", "end to end")}, options.output)
    print(f"picture: {options.output}")


if __name__ == "__main__":
    main()
