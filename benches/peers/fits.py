"""Whole fits of multinomial logistic regression: this crate beside scikit-learn's solvers and linfa-logistic, in turns.

    .venv/bin/python fits.py [--rounds 7] [--output results]

On wine, ANES96 and the digits, as they are (the digits over 16 too), in f64, on up to two threads: the sum of the losses plus
half of l2 times the squared norm of the coefficients, intercepts excepted. Where each ends is judged by one function, in
f64; `beyond` is how far that J is above the least J that any of them found, relatively. Writes fits.md and fits.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

# Before numpy, which reads it.
THREADS = 2
CPUS = sorted(os.sched_getaffinity(0))[:THREADS]
os.sched_setaffinity(0, CPUS)
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(THREADS))

import numpy as np
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import machine
import run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# A fit is repeated within its turn until this many seconds have passed; its time is the least.
TURN_SECONDS = 0.1

warnings.simplefilter("ignore", ConvergenceWarning)


def problems() -> list[tuple[str, np.ndarray, np.ndarray, float]]:
    """Name, X, labels, l2."""

    def golden(name: str) -> tuple[np.ndarray, np.ndarray]:
        content = json.loads((ROOT / "tests" / "golden" / name).read_text())
        return np.array(content["x"], dtype=float), np.array(content["labels"])

    digits = np.loadtxt(ROOT / "data" / "digits.csv", delimiter=",")
    pixels, shown = np.ascontiguousarray(digits[:, :-1]), digits[:, -1].astype(int)
    wine, anes96 = golden("wine.json"), golden("anes96.json")
    return [
        ("wine", *wine, 1.0),
        ("ANES96", *anes96, 0.0),
        ("ANES96", *anes96, 1.0),
        ("digits over 16", pixels / 16, shown, 1.0),
        ("digits", pixels, shown, 1.0),
    ]


def objective(x: np.ndarray, labels: np.ndarray, l2: float, theta: np.ndarray) -> float:
    scores = x @ theta[:-1] + theta[-1]
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(labels)), labels]
    return float(losses.sum() + 0.5 * l2 * (theta[:-1] ** 2).sum())


class ScikitLearn:
    """LogisticRegression with a solver and its tolerance, on one thread or two: whichever is the faster."""

    def __init__(self, solver: str, tol: float):
        self.name = f"scikit-learn {solver}, tol={tol:g}"
        self.arguments = {"solver": solver, "tol": tol, "max_iter": 100_000}

    def prepare(self, x: np.ndarray, labels: np.ndarray, l2: float) -> None:
        self.data = (x, labels)
        seconds = {}
        for self.threads in range(1, THREADS + 1):
            seconds[self.threads] = min(self.fit(l2)[0] for _ in range(2))
        self.threads = min(seconds, key=seconds.__getitem__)

    def fit(self, l2: float) -> tuple[float, np.ndarray]:
        model = LogisticRegression(C=1.0 / l2 if l2 else np.inf, **self.arguments)
        with threadpool_limits(self.threads):
            begin = time.perf_counter()
            model.fit(*self.data)
            seconds = time.perf_counter() - begin
        return seconds, np.vstack([model.coef_.T, model.intercept_])


class Rust:
    """An engine of the Rust worker."""

    def __init__(self, engine: str, name: str, directory: Path):
        self.name, self.engine, self.directory = name, run.rust(engine), directory
        self.worker = None

    def prepare(self, x: np.ndarray, labels: np.ndarray, _: float) -> None:
        case = run.Case(self.name, *x.shape, int(labels.max()) + 1, "f64", THREADS)
        self.shape = (case.n + 1, case.k)
        x.astype(case.real).tofile(self.directory / "x.bin")
        labels.astype("<u4").tofile(self.directory / "labels.bin")
        (self.directory / "theta.bin").write_bytes(b"")
        if self.worker is None:
            self.worker = run.Worker(self.engine, case)
        self.worker.prepare(self.directory, case)

    def fit(self, l2: float) -> tuple[float, np.ndarray]:
        path = self.directory / "fitted.bin"
        seconds = float(self.worker.ask(f"fit {l2} {path}"))
        return seconds, np.fromfile(path, "<f8").reshape(self.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        engines = [
            Rust("fits-ours", "this crate", Path(folder)),
            ScikitLearn("newton-cholesky", 1e-8),
            ScikitLearn("newton-cg", 1e-8),
            ScikitLearn("lbfgs", 1e-4),
            Rust("fits-linfa", "linfa-logistic", Path(folder)),
        ]
        rows = [row for problem in problems() for row in measure(engines, *problem, arguments.rounds)]
    write(rows, arguments.output)


def measure(engines, name: str, x: np.ndarray, labels: np.ndarray, l2: float, rounds: int) -> list[dict]:
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    losses: dict[str, float] = {}
    for engine in engines:
        engine.prepare(x, labels, l2)
        _, theta = engine.fit(l2)
        losses[engine.name] = objective(x, labels, l2, theta)
    for _ in tqdm(range(rounds), desc=f"{name}, l2 = {l2:g}"):
        for engine in engines:
            turn: list[float] = []
            while sum(turn) < TURN_SECONDS:
                turn.append(engine.fit(l2)[0])
            times[engine.name].append(min(turn))
            time.sleep(run.SPIN_SECONDS)
    least = min(losses.values())
    medians = {engine: statistics.median(turns) for engine, turns in times.items()}
    return [
        {
            "data": name,
            "shape": [*x.shape, int(labels.max()) + 1],
            "l2": l2,
            "engine": engine,
            "seconds": medians[engine],
            "relative": medians[engine] / medians["this crate"],
            "loss": losses[engine],
            "beyond": losses[engine] / least - 1.0,
        }
        for engine in medians
    ]


def write(rows: list[dict], output: Path) -> None:
    about = {"machine": machine.describe(), "versions": machine.versions(HERE), "commit": machine.commit(HERE)}
    (output / "fits.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    lines = ["| data | l2 | solver | ms | time / this crate | J beyond the least |", "|---|---|---|---|---|---|"]
    for row in rows:
        shape = "×".join(map(str, row["shape"]))
        lines.append(
            f"| {row['data']} {shape} | {row['l2']:g} | {row['engine']} | {1e3 * row['seconds']:.3g} "
            f"| {row['relative']:.3g} | {row['beyond']:.0e} |"
        )
    (output / "fits.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
