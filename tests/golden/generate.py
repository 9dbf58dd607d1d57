"""Writes the golden files of tests/truth.rs and tests/fit.rs beside itself: what other programs say of the same numbers.

    python generate.py

README.md tells what the files hold, which versions made them, and where the data come from.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pandas
import scipy
import sklearn
import statsmodels.api as sm
import torch
from sklearn._loss import HalfMultinomialLoss
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._linear_loss import LinearModelLoss
from statsmodels.discrete.tests.results.results_discrete import Anes
from torch.nn.functional import cross_entropy

HERE = Path(__file__).resolve().parent
DIGITS = HERE.parent.parent / "data" / "digits.csv"
IGNORED = -100

BASE = {"python": platform.python_version(), "numpy": np.__version__}
STATSMODELS = BASE | {"scipy": scipy.__version__, "pandas": pandas.__version__, "statsmodels": sm.__version__}
SCIKIT_LEARN = BASE | {"scipy": scipy.__version__, "scikit-learn": sklearn.__version__}
PYTORCH = BASE | {"torch": str(torch.__version__)}


def plain(value):
    """The value as JSON knows it. Python writes the shortest digits that give the same double: 17 at most."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def write(name: str, **content) -> None:
    """One line for each key, and for each element of a nested list."""

    def dumps(value) -> str:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    lines = []
    for key, value in plain(content).items():
        nested = isinstance(value, list) and isinstance(value[0], (list, dict))
        text = "[\n" + ",\n".join(map(dumps, value)) + "\n]" if nested else dumps(value)
        lines.append(f"{dumps(key)}: {text}")
    path = HERE / name
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path.name}: {path.stat().st_size:,} bytes, {content['versions']}")


def anes96_data() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the features, features, and labels."""
    data = sm.datasets.anes96.load_pandas()
    return list(data.exog.columns), data.exog.to_numpy(dtype=float), data.endog.to_numpy(dtype=int)


def anes96() -> None:
    """A published fit, and the fit of statsmodels in full precision. Parameters: a row for each feature and,
    last, the constant; a column for each of the classes 1 to 6, those of class 0 being 0."""
    columns, x, labels = anes96_data()
    published = Anes.mnlogit_basezero
    model = sm.MNLogit(labels, sm.add_constant(x, prepend=False))
    fit = model.fit(method="newton", tol=1e-14, maxiter=50, disp=0)
    write(
        "anes96.json",
        versions=STATSMODELS,
        columns=columns,
        published={
            "source": "Stata 11; statsmodels.discrete.tests.results.results_discrete.Anes.mnlogit_basezero",
            "llf": published.llf,
            "params": published.params,
            "bse": published.bse,
        },
        fitted={
            "source": "statsmodels.api.MNLogit, Newton's method",
            "llf": fit.llf,
            "params": np.asarray(fit.params),
            "bse": np.asarray(fit.bse),
        },
        labels=labels,
        # The integers among them without ".0".
        x=[[int(value) if value == int(value) else value for value in row] for row in x.tolist()],
    )


def scikit_learn(name: str, features, labels, coef_scale: float, **content) -> None:
    """LinearModelLoss at random coefficients (K×(n+1), the intercept last): value and derivatives."""
    rng = np.random.default_rng(96)
    classes = int(labels.max()) + 1
    # Few decimals, for the size of the file.
    weights = rng.uniform(0.0, 3.0, len(labels)).round(2)
    coef = (coef_scale * rng.normal(size=(classes, features.shape[1] + 1))).round(3)
    direction = rng.normal(size=coef.shape).round(3)

    base = HalfMultinomialLoss(n_classes=classes)
    model = LinearModelLoss(base_loss=base, fit_intercept=True)
    arguments = {"X": features, "y": labels.astype(float), "sample_weight": weights}
    cases = []
    for l2 in (0.0, 0.7):
        loss, gradient = model.loss_gradient(coef, **arguments, l2_reg_strength=l2)
        _, hessian_product = model.gradient_hessian_product(coef, **arguments, l2_reg_strength=l2)
        product = hessian_product(direction)
        cases.append({"l2": l2, "loss": loss, "gradient": gradient, "hessian_product": product})

    # What the sum of the weighted losses has been divided by.
    scores = features @ coef[:, :-1].T + coef[:, -1]
    total = base.loss(y_true=arguments["y"], raw_prediction=scores, sample_weight=weights).sum()
    divisor = weights.sum()
    assert np.isclose(total / cases[0]["loss"], divisor, rtol=1e-12, atol=0.0)

    write(
        name,
        versions=SCIKIT_LEARN,
        source="sklearn.linear_model._linear_loss.LinearModelLoss(HalfMultinomialLoss, fit_intercept=True)",
        divisor=divisor,
        labels=labels,
        weights=weights,
        coef=coef,
        direction=direction,
        cases=cases,
        **content,
    )


def optima() -> None:
    """The least sum of losses + ½·l2·‖coef‖², where newton-cholesky of LogisticRegression ends."""
    _, *anes = anes96_data()
    wines = load_wine()
    images = np.loadtxt(DIGITS, delimiter=",", dtype=int)
    pixels, digit_labels = images[:, :-1], images[:, -1]
    cases = []
    for name, x, labels, l2 in [
        ("wine", wines.data, wines.target, 1.0),
        ("anes96", *anes, 0.0),
        ("anes96", *anes, 1.0),
        ("digits/16", pixels / 16, digit_labels, 1.0),
        ("digits", pixels / 1.0, digit_labels, 1.0),
    ]:
        strength = 1.0 / l2 if l2 else np.inf
        model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10, max_iter=1000)
        model.fit(x, labels)
        coef = np.column_stack([model.coef_, model.intercept_])
        mean_loss = LinearModelLoss(HalfMultinomialLoss(n_classes=len(coef)), fit_intercept=True)
        strength = l2 / len(labels)
        loss = len(labels) * mean_loss.loss(coef, x, labels.astype(float), l2_reg_strength=strength)
        cases.append({"data": name, "l2": l2, "loss": loss})
    write("optima.json", versions=SCIKIT_LEARN, cases=cases)


def digits() -> None:
    """The first 300 of the repository's own copy of the digits, divided by 16."""
    data = np.loadtxt(DIGITS, delimiter=",", dtype=int)[:300]
    scikit_learn("digits.json", data[:, :-1] / 16, data[:, -1], 0.3, scale=16)


def wine() -> None:
    """All of the wines, standardised: (x − mean) / scale."""
    data = load_wine()
    mean, scale = data.data.mean(axis=0), data.data.std(axis=0)
    features = (data.data - mean) / scale
    scikit_learn("wine.json", features, data.target, 0.5, mean=mean, scale=scale, x=data.data)


def transform(scores, temperature=1.0, soft_cap=None):
    """Raw scores, bent below the cap and then divided by the temperature."""
    return (scores if soft_cap is None else soft_cap * torch.tanh(scores / soft_cap)) / temperature


def with_gradients(loss, *inputs) -> dict:
    """The loss and its gradient in each of the inputs."""
    gradients = torch.autograd.grad(loss, inputs, retain_graph=True)
    return dict(zip(("loss", "gradient", "input_gradient"), (loss, *gradients)))


class Samples:
    """Random scores with labels, soft targets and weights."""

    def __init__(self, samples=32, classes=7):
        rng = np.random.default_rng(7)
        scores = (3 * rng.normal(size=(samples, classes))).round(3)
        # Every eighth is a confident sample, rightly or wrongly.
        scores[::8] *= 10
        labels = rng.integers(0, classes, samples)
        ignored = np.where(rng.uniform(size=samples) < 0.25, IGNORED, labels)
        # Multiples of 1/1024, so that they sum to 1 exactly; the last sample has a single class.
        soft = rng.multinomial(1024, rng.dirichlet(np.full(classes, 0.7), samples)) / 1024
        soft[-1] = np.eye(classes)[2]
        self.scores = torch.tensor(scores, requires_grad=True)
        self.targets = {
            "labels": torch.tensor(labels),
            "labels_ignored": torch.tensor(ignored),
            "soft_targets": torch.tensor(soft),
        }
        self.class_weights = torch.tensor(rng.uniform(0.2, 3.0, classes).round(2))
        self.sample_weights = torch.tensor(rng.uniform(0.2, 3.0, samples).round(2))

    def content(self) -> dict:
        weights = {"class_weights": self.class_weights, "sample_weights": self.sample_weights}
        return {"scores": self.scores, **self.targets, **weights}

    def case(self, targets: str, class_weights: bool, label_smoothing: float) -> dict:
        """cross_entropy alone, in its three reductions."""
        weight = self.class_weights if class_weights else None

        def loss(reduction):
            arguments = {"weight": weight, "ignore_index": IGNORED, "label_smoothing": label_smoothing}
            return cross_entropy(self.scores, self.targets[targets], reduction=reduction, **arguments)

        losses, of_sum = loss("none"), with_gradients(loss("sum"), self.scores)
        # The gradient of the sum of the losses is not stored twice.
        of_losses = with_gradients(losses.sum(), self.scores)
        torch.testing.assert_close(of_losses, of_sum, rtol=1e-14, atol=1e-14)
        return {
            "targets": targets,
            "class_weights": class_weights,
            "label_smoothing": label_smoothing,
            "losses": losses,
            "sum": of_sum,
            "mean": with_gradients(loss("mean"), self.scores),
        }

    def scaled_case(self, **settings) -> dict:
        """cross_entropy of transformed scores, or with z-loss."""
        scaling = {name: value for name, value in settings.items() if name != "z_loss"}
        z = transform(self.scores, **scaling)
        losses = cross_entropy(z, self.targets["labels"], reduction="none")
        losses = losses + settings.get("z_loss", 0.0) * torch.logsumexp(z, dim=1) ** 2
        of_sum = with_gradients(losses.sum(), self.scores)
        return {"targets": "labels", **settings, "losses": losses, "sum": of_sum}

    def case_of_everything(self, targets: str) -> dict:
        """All settings at once. Sample weights scale the z-loss, class weights do not."""
        settings = {"label_smoothing": 0.1, "temperature": 1.5, "soft_cap": 3.0, "z_loss": 0.01}
        target = self.targets[targets]
        z = transform(self.scores, settings["temperature"], settings["soft_cap"])
        smoothing = settings["label_smoothing"]
        losses = cross_entropy(z, target, self.class_weights, label_smoothing=smoothing, reduction="none")
        losses = self.sample_weights * (losses + settings["z_loss"] * torch.logsumexp(z, dim=1) ** 2)
        # The divisor is that of cross_entropy, with sample weights.
        of_labels = targets == "labels"
        divisor = (self.sample_weights * (self.class_weights[target] if of_labels else 1.0)).sum()
        return {
            "targets": targets,
            "class_weights": True,
            "sample_weights": True,
            **settings,
            "losses": losses,
            "sum": with_gradients(losses.sum(), self.scores),
            "mean": with_gradients(losses.sum() / divisor, self.scores),
        }


def linear() -> dict:
    """Derivatives in x and Θ (n×K), and second derivatives with every setting that has no weights. In the
    Hessian, the place of Θ[j, k] is k·n + j."""
    samples, features, classes = 20, 5, 4
    rng = np.random.default_rng(5)
    x = torch.tensor(rng.normal(size=(samples, features)).round(3), requires_grad=True)
    theta = torch.tensor(rng.normal(size=(features, classes)).round(3), requires_grad=True)
    direction = torch.tensor(rng.normal(size=(features, classes)).round(3))
    labels = torch.tensor(rng.integers(0, classes, samples))

    settings = {"label_smoothing": 0.1, "temperature": 1.5, "soft_cap": 3.0, "z_loss": 0.01}

    def loss(theta):
        z = transform(x @ theta, settings["temperature"], settings["soft_cap"])
        losses = cross_entropy(z, labels, label_smoothing=settings["label_smoothing"], reduction="sum")
        return losses + settings["z_loss"] * (torch.logsumexp(z, dim=1) ** 2).sum()

    by_class = torch.autograd.functional.hessian(lambda transposed: loss(transposed.T), theta.detach().T)
    _, product = torch.autograd.functional.hvp(loss, theta.detach(), direction)
    plain_case = with_gradients(cross_entropy(x @ theta, labels, reduction="sum"), theta, x)
    return {
        "x": x,
        "theta": theta,
        "labels": labels,
        "direction": direction,
        "plain": plain_case,
        "settings": settings,
        "all": with_gradients(loss(theta), theta, x),
        "hessian_product": product,
        "hessian": by_class.reshape(theta.numel(), theta.numel()),
    }


def pytorch() -> None:
    torch.set_num_threads(1)
    samples = Samples()
    cases = [
        samples.case(targets, class_weights, label_smoothing)
        for targets, smoothings in [
            ("labels", (0.0, 0.1, 1.0)),
            ("labels_ignored", (0.0, 0.1, 1.0)),
            ("soft_targets", (0.0, 0.1)),
        ]
        for class_weights in (False, True)
        for label_smoothing in smoothings
    ]
    cases += [samples.scaled_case(temperature=temperature) for temperature in (0.5, 2.0)]
    cases += [samples.scaled_case(soft_cap=soft_cap) for soft_cap in (3.0, 30.0)]
    cases += [samples.scaled_case(z_loss=z_loss) for z_loss in (0.01, 1.0)]
    cases += [samples.case_of_everything(targets) for targets in ("labels", "soft_targets")]
    write("pytorch.json", versions=PYTORCH, **samples.content(), cases=cases)
    write("pytorch_linear.json", versions=PYTORCH, **linear())


if __name__ == "__main__":
    anes96()
    digits()
    wine()
    optima()
    pytorch()
