"""Scheduling generation for tomorrow's load: a forecast trained on its errors, then on what it costs.

    python examples/power_scheduling.py --data path/to/folder

A network forecasts the 24 loads of the next day, as a normal distribution each hour. The schedule z
minimizes what is then expected: 50 for each GW short, 0.5 for each GW over, half of the squared
deviation, with ramps |z_i - z_(i-1)| <= 0.4. Task and data are those of "Task-based End-to-end Model
Learning in Stochastic Optimization" (Donti, Amos and Kolter, NeurIPS 2017), whose task-based network
costs 38.6 % less than its RMSE network. The folder holds pjm_load_data_*.txt of the authors' code,
github.com/locuslab/e2e-model-learning.
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
NEWTON = 8  # steps to a schedule
FIT = 400  # steps on the squared error
STEPS, BATCH, RATE = 300, 128, 1e-3  # end to end
EVERY = 20  # steps between two looks at the held-out days


def days(path: Path) -> tuple[Any, Any]:
    """Features known the day before (and the day's temperatures), loads (N, 24) in the file's GW."""
    import pandas as pd
    from pandas.tseries.holiday import USFederalHolidayCalendar

    raw = np.loadtxt(path)
    frame = pd.DataFrame(raw, columns=["time", "load", "temperature"]).drop_duplicates("time")
    stamps = pd.to_datetime(frame["time"], unit="s", utc=True).dt.tz_convert("America/New_York")
    frame["date"], frame["hour"] = stamps.dt.date, stamps.dt.hour

    def table(name: str) -> Any:
        return frame.pivot_table(index="date", columns="hour", values=name).bfill(axis=1).ffill(axis=1)

    loads, warm = table("load"), table("temperature").to_numpy()
    free = set(USFederalHolidayCalendar().holidays("2008-01-01", "2016-12-31").date)
    calendar = []
    for date in loads.index:
        turn = 2 * np.pi * date.timetuple().tm_yday / 365
        noon = pd.Timestamp(datetime.datetime.combine(date, datetime.time(12)), tz="America/New_York")
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
                "log_width": np.zeros(HOURS),
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
        width = self.kit.xp.exp(model["log_width"]) + 0.0 * mean
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
        return {**model, "log_width": self.kit.xp.log(factor * width)}
