"""What a measurement was made with: processor, compilers, packages, commit."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import tomllib
from pathlib import Path

PYTHON_PACKAGES = ["numpy", "scipy", "scikit-learn", "torch", "jax", "jaxlib", "scikit-learn-intelex", "daal", "mkl"]
RUST_PACKAGES = ["softmax-regression", "faer", "pulp", "linfa-logistic", "burn", "burn-flex", "candle-core", "gemm"]

# The features that make a level of x86-64, as the System V ABI names them (the ones that matter here).
LEVELS = {"x86-64-v4": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}, "x86-64-v3": {"avx2", "fma", "bmi2"}}


def describe() -> dict[str, str]:
    """The processor, as far as it matters here."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {"architecture": platform.machine()}
    fields = [line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line]
    cpu = {name.strip(): value.strip() for name, value in fields}
    flags = set(cpu.get("flags", "").split())
    level = next((name for name, needed in LEVELS.items() if needed <= flags), platform.machine())
    return {
        "processor": cpu.get("model name", ""),
        "vendor": cpu.get("vendor_id", ""),
        "family": cpu.get("cpu family", ""),
        "model": cpu.get("model", ""),
        "level": level,
        "cores": str(text.count("processor\t:")),
    }


def versions(here: Path) -> dict[str, str]:
    """The versions of everything that is measured, and of the compilers."""
    found = {"python": platform.python_version()}
    for package in PYTHON_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    lock = here / "Cargo.lock"
    for package in tomllib.loads(lock.read_text())["package"] if lock.exists() else []:
        if package["name"] in RUST_PACKAGES:
            found[package["name"]] = package["version"]
    found["gcc"] = output_of("gcc", "-dumpfullversion").strip()
    found["rustc"] = output_of("rustc", "--version").split()[1]
    return found


def commit(here: Path) -> str:
    """The commit of the crate, with a plus sign if its sources are not committed."""
    head = output_of("git", "-C", str(here), "rev-parse", "--short", "HEAD").strip()
    changed = output_of("git", "-C", str(here), "status", "--porcelain", "--", "../../src").strip()
    return head + ("+" if changed else "")


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
