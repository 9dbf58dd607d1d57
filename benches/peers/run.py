"""Measures softmax-regression beside the alternatives, in turns, in one run. See README.md.

    .venv/bin/python run.py [--shapes small,digits] [--engines ours,mkl] [--threads 1,2] [--dtypes f32,f64]
                            [--input-gradient] [--budget SECONDS] [--output DIRECTORY]
    .venv/bin/python run.py --plot-only results/results.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import random
import re
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import machine
import report

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("BUILD", HERE / "build"))
RUST_WORKER = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target")) / "release" / "peers-worker"

# Where the shapes are defined, for the Rust benches too.
SHAPES_SOURCE = HERE.parent / "support" / "mod.rs"

# Seconds of evaluations that count, each time an engine's turn comes, if one evaluation does not take longer.
TURN_SECONDS = 0.06
# Turns of an engine in a case: at most, and at least, however slow it is.
MAX_TURNS = 20
MIN_TURNS = 3
# Measurements of the limits each time their turn comes.
LIMITS_PER_TURN = 3
# Seconds after which the threads of any OpenMP runtime have stopped spinning.
SPIN_SECONDS = 0.3
# Seconds that a worker may take for an answer: a search among plans, or a compilation.
PATIENCE = 900


@dataclass(frozen=True)
class Engine:
    """A worker program, and what to know about it."""

    name: str
    command: tuple[str, ...]
    # Whether its threads go on spinning after an evaluation.
    spins: bool = False
    # Shapes it cannot do or would need minutes for.
    skips: tuple[str, ...] = ()
    # Whether it computes the gradient by X too, if asked.
    input_gradient: bool = False


def rust(name: str, **rest) -> Engine:
    return Engine(name, (str(RUST_WORKER), name), **rest)


def python(name: str, **rest) -> Engine:
    return Engine(name, (sys.executable, str(HERE / "engines.py"), name), **rest)


ENGINES = [
    rust("ours", input_gradient=True),
    Engine("mkl", (str(BUILD / "mkl"),), spins=True, input_gradient=True),
    python("onedal"),
    python("torch", spins=True),
    python("torch-compiled", spins=True),
    python("jax"),
    python("sklearn", spins=True),
    python("numpy", spins=True),
    rust("burn"),
    rust("candle"),
    # It wants every class among the labels, and computes large products slowly.
    rust("linfa", skips=("probe", "lmhead")),
]
LIMITS = Engine("limits", (str(BUILD / "limits"),), spins=True)


@dataclass(frozen=True)
class Case:
    """One line of the table: a shape, a type, a number of threads."""

    shape: str
    m: int
    n: int
    k: int
    dtype: str
    threads: int
    # With the gradient by X.
    input_gradient: bool = False

    @property
    def title(self) -> str:
        return f"{self.shape} dX" if self.input_gradient else self.shape

    @property
    def key(self) -> str:
        return f"{self.title} {self.dtype} {self.threads}"

    @property
    def data_name(self) -> str:
        return f"{self.shape}-{self.dtype}"

    @property
    def real(self) -> np.dtype:
        return np.dtype({"f32": "<f4", "f64": "<f8"}[self.dtype])


def all_cases(input_gradient: bool = False) -> list[Case]:
    """Every case of the benches' shapes, which are read from the Rust source."""
    pattern = re.compile(r'shape\("(\w+)", ([\d_]+), ([\d_]+), ([\d_]+), (true|false)\)')
    cases: list[Case] = []
    for name, m, n, k, f64 in pattern.findall(SHAPES_SOURCE.read_text()):
        sizes = [int(size.replace("_", "")) for size in (m, n, k)]
        for dtype in ["f32", "f64"] if f64 == "true" else ["f32"]:
            cases += [Case(name, *sizes, dtype, threads, input_gradient) for threads in (1, 2)]
    return cases


# Loss, and gradient n×K.
Result = tuple[float, np.ndarray]


class WorkerFailed(Exception):
    """A worker ended, or did not answer in time."""


class Worker:
    """A running engine that answers one line for each line it is sent."""

    def __init__(self, engine: Engine, case: Case):
        self.engine = engine
        self.messages = tempfile.TemporaryFile("w+")
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[: case.threads]))
        self.process = subprocess.Popen(
            ["taskset", "--cpu-list", cpus, *engine.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            text=True,
            env=environment(case.threads),
        )

    def ask(self, line: str) -> str:
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerFailed(self.message()) from error
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE):
                raise WorkerFailed("no answer in time")
        answer = self.process.stdout.readline()
        if not answer:
            raise WorkerFailed(self.message())
        return answer.strip()

    def prepare(self, directory: Path, case: Case) -> None:
        wish = " dx" if case.input_gradient and self.engine.input_gradient else ""
        self.ask(f"prepare {directory} {case.dtype} {case.m} {case.n} {case.k} {case.threads}{wish}")

    def run(self, repetitions: int) -> list[float]:
        return [float(number) for number in self.ask(f"run {repetitions}").split()]

    def result(self, path: Path, case: Case) -> Result:
        self.ask(f"result {path}")
        numbers = np.fromfile(path, "<f8")
        return numbers[0], numbers[1:].reshape(case.n, case.k)

    def message(self, start: str = "") -> str:
        """The last line on its standard error that begins so."""
        self.messages.seek(0)
        lines = [line.strip() for line in self.messages if line.strip() and line.startswith(start)]
        return lines[-1] if lines else ""

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.messages.close()


def environment(threads: int) -> dict[str, str]:
    """The surroundings of a worker: so many threads, whatever library makes them."""
    env = dict(os.environ)
    # Settings for old versions of OpenBLAS, which slow down the new.
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        env.pop(name, None)
    for library in ("OMP", "MKL", "OPENBLAS", "RAYON", "MATMUL", "NUMEXPR"):
        env[f"{library}_NUM_THREADS"] = str(threads)
    env["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return env


def data_of(case: Case, root: Path) -> Path:
    """The folder with the data of a case, written if it is not there."""
    directory = root / case.data_name
    if not (directory / "theta.bin").exists():
        directory.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(1)
        rng.standard_normal((case.m, case.n)).astype(case.real).tofile(directory / "x.bin")
        rng.integers(0, case.k, case.m).astype("<u4").tofile(directory / "labels.bin")
        (0.1 * rng.standard_normal((case.n, case.k))).astype(case.real).tofile(directory / "theta.bin")
    return directory


def reference(case: Case, directory: Path) -> Result:
    """Loss and gradient by the formulas, in f64, a part of the samples at a time."""
    x = np.fromfile(directory / "x.bin", case.real).reshape(case.m, case.n)
    labels = np.fromfile(directory / "labels.bin", "<u4")
    theta = np.fromfile(directory / "theta.bin", case.real).reshape(case.n, case.k).astype(np.float64)
    loss, gradient = 0.0, np.zeros_like(theta)
    part = max(1, 2**25 // max(case.n, case.k))
    for first in range(0, case.m, part):
        block = x[first : first + part].astype(np.float64)
        rows, label = np.arange(len(block)), labels[first : first + part]
        scores = block @ theta
        scores -= scores.max(axis=1, keepdims=True)
        own = scores[rows, label]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1)
        loss += np.sum(np.log(total) - own)
        scores /= total[:, None]
        scores[rows, label] -= 1
        gradient += block.T @ scores
    return loss, gradient


def disagreement(case: Case, expected: Result, got: Result, theta_norm: float) -> str:
    """What is wrong with a result, or nothing.

    A score is a sum of n products of standard normal numbers and numbers a tenth as large: it errs by about
    0.1·n roundings, and so, relatively, does a probability. Sums over samples add about √m roundings. Sixteen times
    that passes; a wrong formula or products in a shorter type do not.
    """
    rounding = np.finfo(case.real).eps / 2
    tolerance = 16 * rounding * (8 + 0.1 * case.n + math.sqrt(case.m))
    (expected_loss, expected_gradient), (loss, gradient) = expected, got
    if math.isnan(loss):
        # The worker knows only a step along the gradient, as a difference of two Θ.
        step = np.linalg.norm(gradient)
        if step == 0:
            return "no step along the gradient, which so cannot be checked"
        tolerance += 2 * rounding * theta_norm / step
        gradient = gradient * np.linalg.norm(expected_gradient) / step
        loss = expected_loss
    loss_error = abs(loss - expected_loss) / abs(expected_loss)
    gradient_error = np.linalg.norm(gradient - expected_gradient) / np.linalg.norm(expected_gradient)
    if loss_error <= tolerance and gradient_error <= tolerance:
        return ""
    return f"loss off by {loss_error:.1e}, gradient by {gradient_error:.1e}, allowed {tolerance:.1e}"


def prepare_engines(case: Case, engines: list[Engine], directory: Path) -> tuple[dict[str, Worker], dict[str, str]]:
    """Workers that are ready and agree with the reference, and why the others do not take part."""
    workers, failures = {}, {}
    expected = reference(case, directory)
    theta_norm = np.linalg.norm(np.fromfile(directory / "theta.bin", case.real))
    with tempfile.TemporaryDirectory() as scratch:
        for engine in engines:
            if case.shape in engine.skips:
                continue
            say(f"{case.key}: preparing {engine.name}")
            worker = Worker(engine, case)
            try:
                worker.prepare(directory, case)
                got = worker.result(Path(scratch) / "result.bin", case)
                problem = disagreement(case, expected, got, theta_norm)
            except WorkerFailed as failure:
                problem = str(failure) or "ended without a word"
            if problem:
                say(f"{case.key}: {engine.name} does not take part: {problem}")
                failures[engine.name] = problem
                worker.close()
            else:
                workers[engine.name] = worker
            rest(engine, case)
    return workers, failures


def rest(engine: Engine, case: Case) -> None:
    """Lets spinning threads come to rest before another engine's turn."""
    if engine.spins and case.threads > 1:
        time.sleep(SPIN_SECONDS)


def measure(case: Case, engines: list[Engine], directory: Path, budget: float, rng: random.Random) -> dict:
    """Times all engines in turns, in an order that changes each round."""
    workers, failures = prepare_engines(case, engines, directory)
    limits = Worker(LIMITS, case)
    try:
        limits.prepare(directory, case)
        # One evaluation each tells how many fit a turn, and how many turns fit the budget.
        repetitions, turns = {}, {}
        for name, worker in workers.items():
            once = min(worker.run(2))
            rest(worker.engine, case)
            repetitions[name] = max(1, min(2000, round(TURN_SECONDS / once)))
            share = budget / len(workers) / (once * repetitions[name])
            turns[name] = max(MIN_TURNS, min(MAX_TURNS, round(share)))

        times: dict[str, list[float]] = {name: [] for name in workers}
        bounds: list[float] = []
        rounds = max(turns.values(), default=0)
        for round_ in range(rounds):
            # An engine with fewer turns has them spread over all rounds.
            present = [n for n in workers if (round_ + 1) * turns[n] // rounds > round_ * turns[n] // rounds]
            for name in rng.sample([*present, LIMITS.name], len(present) + 1):
                worker = limits if name == LIMITS.name else workers[name]
                if worker is limits:
                    bounds += limits.run(LIMITS_PER_TURN)
                else:
                    # The first half of many short evaluations does not count: the first finds its data in no cache, and
                    # threads that have slept come to both processors only after some time.
                    first = repetitions[name] if repetitions[name] > 1 else 0
                    times[name] += worker.run(repetitions[name] + first)[first:]
                rest(worker.engine, case)

        # Each repetition gave two numbers.
        reading, computing = statistics.median(bounds[0::2]), statistics.median(bounds[1::2])
        if case.input_gradient:
            # A third product of the same size.
            computing *= 1.5
        return {
            "shape": case.title,
            "m": case.m,
            "n": case.n,
            "k": case.k,
            "dtype": case.dtype,
            "threads": case.threads,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": machine.commit(HERE),
            "limit": {"seconds": max(reading, computing), "reading X": reading, "flops at peak": computing},
            "engines": {name: summary(times[name], turns[name], workers[name]) for name in workers},
            "failures": failures,
        }
    finally:
        for worker in [*workers.values(), limits]:
            worker.close()


def summary(times: list[float], turns: int, worker: Worker) -> dict:
    low, median, high = np.percentile(times, [25, 50, 75])
    return {
        "median": median,
        "quartiles": [low, high],
        "fastest": min(times),
        "evaluations": len(times),
        "turns": turns,
        "choice": worker.message("choice: ").removeprefix("choice: "),
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def progress(cases: list[Case]):
    """The cases, with a bar if tqdm is there."""
    try:
        from tqdm import tqdm
    except ImportError:
        return cases
    return tqdm(cases, unit="case", file=sys.stderr)


def listed(text: str) -> list[str]:
    return text.split(",")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=listed, help="names from benches/support/mod.rs; all of them by default")
    parser.add_argument("--engines", type=listed, default=[engine.name for engine in ENGINES])
    parser.add_argument("--threads", type=listed, default=["1", "2"])
    parser.add_argument("--dtypes", type=listed, default=["f32", "f64"])
    parser.add_argument("--input-gradient", action="store_true", help="the gradient by X too, by engines that know it")
    parser.add_argument("--budget", type=float, default=30, help="seconds of evaluations in a case, about")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="where the generated data are kept")
    parser.add_argument("--fresh", action="store_true", help="forget the cases of an earlier run")
    parser.add_argument("--plot-only", type=Path, metavar="RESULTS", help="draw table and plot of these results anew")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.plot_only:
        report.write(json.loads(args.plot_only.read_text()), args.plot_only.parent)
        return
    if not shutil.which("taskset"):
        sys.exit("taskset (util-linux) is needed to pin the workers")

    cases = [
        case
        for case in all_cases(args.input_gradient)
        if (args.shapes is None or case.shape in args.shapes)
        and str(case.threads) in args.threads
        and case.dtype in args.dtypes
        and case.threads <= len(os.sched_getaffinity(0))
    ]
    engines = [
        engine
        for engine in ENGINES
        if engine.name in args.engines and (engine.input_gradient or not args.input_gradient)
    ]
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "results.json"
    results = json.loads(path.read_text()) if path.exists() and not args.fresh else {"cases": {}}
    results["machine"] = machine.describe()
    results["versions"] = machine.versions(HERE)
    rng = random.Random(1)
    for case in progress(cases):
        results["cases"][case.key] = measure(case, engines, data_of(case, args.data), args.budget, rng)
        order = [case.key for with_dx in (False, True) for case in all_cases(with_dx)]
        results["cases"] = dict(sorted(results["cases"].items(), key=lambda item: order.index(item[0])))
        path.write_text(json.dumps(results, indent=1) + "\n")
        say(report.line(results["cases"][case.key]))
    report.write(results, args.output)


if __name__ == "__main__":
    main()
