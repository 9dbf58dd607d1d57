"""The alternatives that are used from Python, as workers of run.py: `engines.py ENGINE`, protocol in README.md.

An engine is a function from a problem to variants of the same computation (layouts, ways to call a library). `prepare`
times each variant shortly and keeps the fastest, so that every engine has its data as it likes them best.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Seconds that the choice among variants may spend on each of them, after one warm-up.
CHOICE_SECONDS = 0.1


@dataclass
class Problem:
    """One evaluation: X (m×n) and Θ (n×K) row-major, labels, and how many threads there are."""

    x: np.ndarray
    labels: np.ndarray
    theta: np.ndarray
    threads: int

    @classmethod
    def read(cls, directory: Path, dtype: str, m: int, n: int, k: int, threads: int) -> Problem:
        real = np.dtype(dtype.replace("f32", "<f4").replace("f64", "<f8"))
        return cls(
            x=np.fromfile(directory / "x.bin", real).reshape(m, n),
            labels=np.fromfile(directory / "labels.bin", "<u4").astype(np.int64),
            theta=np.fromfile(directory / "theta.bin", real).reshape(n, k),
            threads=threads,
        )


@dataclass
class Variant:
    """A way to compute loss and gradient; both are there when `evaluate` returns."""

    name: str
    evaluate: Callable[[], tuple[Any, Any]]
    # Loss and gradient (n×K) as numpy has them.
    unpack: Callable[[Any, Any], tuple[float, np.ndarray]]


def numpy_variants(p: Problem) -> Iterator[Variant]:
    """The formulas in numpy, in place wherever numpy can."""
    m, k = len(p.x), p.theta.shape[1]
    rows = np.arange(m)
    scores = np.empty((m, k), p.x.dtype)
    for x_order in "CF":
        x = np.asarray(p.x, order=x_order)
        for theta_order in "CF":
            theta = np.asarray(p.theta, order=theta_order)
            gradient = np.empty_like(theta)

            def evaluate(x=x, theta=theta, gradient=gradient):
                np.matmul(x, theta, out=scores)
                np.subtract(scores, scores.max(axis=1, keepdims=True), out=scores)
                own = scores[rows, p.labels]
                np.exp(scores, out=scores)
                total = scores.sum(axis=1)
                loss = np.sum(np.log(total) - own, dtype=np.float64)
                np.divide(scores, total[:, None], out=scores)
                scores[rows, p.labels] -= 1
                if gradient.flags.c_contiguous:
                    np.matmul(x.T, scores, out=gradient)
                else:
                    np.matmul(scores.T, x, out=gradient.T)
                return loss, gradient

            yield Variant(f"X {x_order}, theta {theta_order}", evaluate, lambda loss, g: (float(loss), g))


def sklearn_variants(p: Problem) -> Iterator[Variant]:
    """scikit-learn's loss and gradient, as LogisticRegression uses them."""
    from sklearn._loss.loss import HalfMultinomialLoss
    from sklearn.linear_model._linear_loss import LinearModelLoss

    m, k = len(p.x), p.theta.shape[1]
    model = LinearModelLoss(base_loss=HalfMultinomialLoss(n_classes=k), fit_intercept=False)
    labels = p.labels.astype(p.x.dtype)
    coefficients = np.asfortranarray(p.theta.T)

    def unpack(loss, gradient):
        # Both are means.
        return float(loss) * m, gradient.T.astype(np.float64) * m

    for x_order in "CF":
        x = np.asarray(p.x, order=x_order)
        # Its own threads and those of the products may get into each other's way.
        for threads in sorted({1, p.threads}):

            def evaluate(x=x, threads=threads):
                return model.loss_gradient(coefficients, x, labels, n_threads=threads)

            yield Variant(f"X {x_order}, {threads} threads", evaluate, unpack)


def torch_problem(p: Problem):
    """X, labels and a weight (K×n, as torch.nn.Linear has it) that wants a gradient."""
    import torch

    torch.set_num_threads(p.threads)
    weight = torch.from_numpy(np.ascontiguousarray(p.theta.T)).requires_grad_()
    return torch.from_numpy(p.x), torch.from_numpy(p.labels), weight


def torch_variants(p: Problem, compiled: bool = False) -> Iterator[Variant]:
    """PyTorch's linear layer and cross-entropy, with its automatic differentiation."""
    import torch
    import torch.nn.functional as F

    x, labels, weight = torch_problem(p)

    def two_steps():
        return F.cross_entropy(F.linear(x, weight), labels, reduction="sum")

    def fused():
        return F.linear_cross_entropy(x, weight, labels, reduction="sum")

    forwards = {"linear, cross_entropy": two_steps}
    if hasattr(F, "linear_cross_entropy") and not compiled:
        forwards["linear_cross_entropy"] = fused
    for name, forward in forwards.items():
        forward = torch.compile(forward, dynamic=False) if compiled else forward

        def evaluate(forward=forward):
            loss = forward()
            (gradient,) = torch.autograd.grad(loss, weight)
            return loss.item(), gradient

        yield Variant(name, evaluate, lambda loss, g: (loss, g.numpy().T))


def torch_compiled_variants(p: Problem) -> Iterator[Variant]:
    """The same through torch.compile."""
    return torch_variants(p, compiled=True)


def jax_variants(p: Problem) -> Iterator[Variant]:
    """JAX: value_and_grad, compiled."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", p.x.dtype == np.float64)
    x, labels = jnp.asarray(p.x), jnp.asarray(p.labels, jnp.int32)

    def loss_of(scores, labels):
        own = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
        return jnp.sum(jax.nn.logsumexp(scores, axis=1) - own)

    layouts = {
        "theta n×K": (lambda theta, x, labels: loss_of(x @ theta, labels), p.theta, lambda g: g),
        "theta K×n": (lambda theta, x, labels: loss_of(x @ theta.T, labels), p.theta.T, lambda g: g.T),
    }
    for name, (loss, theta, transposed) in layouts.items():
        both = jax.jit(jax.value_and_grad(loss))
        theta = jnp.asarray(np.ascontiguousarray(theta))

        def evaluate(both=both, theta=theta):
            return jax.block_until_ready(both(theta, x, labels))

        yield Variant(name, evaluate, lambda loss, g, t=transposed: (float(loss), t(np.asarray(g))))


def onedal_variants(p: Problem) -> Iterator[Variant]:
    """oneDAL's cross-entropy loss, as scikit-learn-intelex used it for its logistic regression."""
    import daal4py

    daal4py.daalinit(p.threads)
    m, n = p.x.shape
    k = p.theta.shape[1]
    labels = p.labels.astype(p.x.dtype)[:, None]
    # K×(n+1), the intercept first: it has a place even if it is not used.
    beta = np.zeros((k, n + 1), p.x.dtype)
    beta[:, 1:] = p.theta.T
    beta = beta.reshape(-1, 1)
    objective = daal4py.optimization_solver_cross_entropy_loss(
        nClasses=k,
        numberOfTerms=m,
        fptype="double" if p.x.dtype == np.float64 else "float",
        interceptFlag=False,
        resultsToCompute="value|gradient",
    )
    objective.setup(p.x, labels, beta)

    def evaluate():
        result = objective.compute(p.x, labels, beta)
        return result.valueIdx, result.gradientIdx

    def unpack(loss, gradient):
        # Both are means.
        return float(loss[0, 0]) * m, gradient.reshape(k, n + 1)[:, 1:].T.astype(np.float64) * m

    yield Variant("dense", evaluate, unpack)


ENGINES: dict[str, Callable[[Problem], Iterator[Variant]]] = {
    "numpy": numpy_variants,
    "sklearn": sklearn_variants,
    "torch": torch_variants,
    "torch-compiled": torch_compiled_variants,
    "jax": jax_variants,
    "onedal": onedal_variants,
}


def fastest(variants: Iterator[Variant]) -> Variant:
    """The variant with the shortest evaluation, each tried for a moment."""
    best, best_time = None, float("inf")
    for variant in variants:
        variant.evaluate()
        begin = time.perf_counter()
        while time.perf_counter() - begin < CHOICE_SECONDS:
            seconds = timed(variant)
            if seconds < best_time:
                best, best_time = variant, seconds
    print(f"choice: {best.name}", file=sys.stderr)
    return best


def timed(variant: Variant) -> float:
    """Seconds of one evaluation."""
    start = time.perf_counter()
    variant.evaluate()
    return time.perf_counter() - start


def main() -> None:
    engine = ENGINES[sys.argv[1]]
    variant = None
    for line in sys.stdin:
        match line.split():
            case ["prepare", directory, dtype, *sizes]:
                variant = None
                variant = fastest(engine(Problem.read(Path(directory), dtype, *map(int, sizes))))
                answer = "ready"
            case ["run", repetitions]:
                answer = " ".join(f"{timed(variant):.9g}" for _ in range(int(repetitions)))
            case ["result", path]:
                loss, gradient = variant.unpack(*variant.evaluate())
                np.concatenate([[loss], np.ascontiguousarray(gradient, np.float64).ravel()]).tofile(path)
                answer = "ok"
            case _:
                break
        print(answer, flush=True)


if __name__ == "__main__":
    main()
