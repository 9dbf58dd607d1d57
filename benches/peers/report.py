"""The table and the plot of run.py's results."""

from __future__ import annotations

from pathlib import Path

OURS = "ours"
# Order and colours of the sides.
COLOURS = {
    "mkl": "#1f4e9c",
    "onedal": "#6fa8dc",
    "torch": "#d9480f",
    "torch-compiled": "#ffa94d",
    "jax": "#8e44ad",
    "sklearn": "#e0b000",
    "numpy": "#8d8d8d",
    "burn": "#b03060",
    "candle": "#2e8b57",
    "linfa": "#7a5230",
}
OURS_COLOUR = "#111111"


def milliseconds(case: dict, engine: str) -> float | None:
    measured = case["engines"].get(engine)
    return measured["median"] * 1e3 if measured else None


def best_alternative(case: dict) -> str | None:
    others = [name for name in case["engines"] if name != OURS]
    return min(others, key=lambda name: case["engines"][name]["median"], default=None)


def share_of_limit(case: dict, engine: str | None) -> float | None:
    measured = case["engines"].get(engine)
    return case["limit"]["seconds"] / measured["median"] if measured else None


def label(case: dict) -> str:
    return f"{case['shape']} {case['m']}×{case['n']}×{case['k']} {case['dtype']}"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def line(case: dict) -> str:
    """A case in one line, for the terminal."""
    threads = case["threads"]
    sides = ", ".join(f"{name} {number(milliseconds(case, name))}" for name in case["engines"])
    return f"{label(case)}, {threads} thread{'s' if threads > 1 else ''}: {sides} ms"


def table(results: dict) -> str:
    """Markdown: milliseconds of every side, the best alternative, and what the machine allows."""
    cases = list(results["cases"].values())
    engines = [name for name in [OURS, *COLOURS] if any(name in case["engines"] for case in cases)]
    head = ["shape m×n×K", "threads", "limit", *engines, "best other", "best other / ours"]
    head += ["limit / ours", "limit / best other"]
    rows = [head, ["---"] * len(head)]
    for case in cases:
        best = best_alternative(case)
        ours, theirs = milliseconds(case, OURS), milliseconds(case, best) if best else None
        rows.append(
            [
                label(case),
                str(case["threads"]),
                number(case["limit"]["seconds"] * 1e3),
                *(number(milliseconds(case, name)) for name in engines),
                best or "–",
                number(theirs / ours) if ours and theirs else "–",
                percent(share_of_limit(case, OURS)),
                percent(share_of_limit(case, best)),
            ]
        )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    machine = results["machine"]
    processor = ", ".join(f"{name} {value}" for name, value in machine.items() if value)
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    failures = [
        f"- {label(case)}, {case['threads']} threads: {name}: {reason}"
        for case in cases
        for name, reason in case["failures"].items()
    ]
    text = [
        "Milliseconds of one evaluation of loss and gradient, medians. `limit`: the longer of reading X once and of",
        "doing the two products at the peak of multiply-adds, both measured in the same turns; the last columns are the",
        "limit as a share of the time.",
        "",
        *lines,
        "",
        f"Machine: {processor}.",
        "",
        f"Versions: {packages}.",
    ]
    if failures:
        text += ["", "Not measured, because they failed or disagreed with the reference:", "", *failures]
    return "\n".join(text) + "\n"


def plot(results: dict, path: Path) -> None:
    """Times relative to ours, one panel for each number of threads, and the shares of the limit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

    cases = [case for case in results["cases"].values() if OURS in case["engines"]]
    if not cases:
        return
    thread_counts = sorted({case["threads"] for case in cases})
    engines = [name for name in COLOURS if any(name in case["engines"] for case in cases)]
    panels = len(thread_counts) + 1
    groups = max(sum(case["threads"] == threads for case in cases) for threads in thread_counts)
    size = (max(9, 1.35 * groups + 2), 4 * panels)
    figure, axes = plt.subplots(panels, 1, figsize=size, layout="constrained")

    for axis, threads in zip(axes, thread_counts):
        chosen = [case for case in cases if case["threads"] == threads]
        width = 0.84 / max(1, len(engines))
        for place, engine in enumerate(engines):
            for group, case in enumerate(chosen):
                if engine in case["engines"]:
                    ratio = milliseconds(case, engine) / milliseconds(case, OURS)
                    at = group + (place - (len(engines) - 1) / 2) * width
                    axis.bar(at, ratio - 1, width, bottom=1, color=COLOURS[engine])
        axis.axhline(1, color=OURS_COLOUR, linewidth=1.5)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_ylabel("time, relative to ours")
        axis.set_title(f"{threads} thread{'s' if threads > 1 else ''}: bars above the line are slower than ours")
        name_groups(axis, chosen)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in engines]
    figure.legend(handles, engines, ncols=len(engines), fontsize=8, loc="outside upper center")

    axis = axes[-1]
    first = [case for case in cases if case["threads"] == thread_counts[0]]
    width = 0.8 / (2 * len(thread_counts))
    for row, threads in enumerate(thread_counts):
        by_name = {(c["shape"], c["dtype"]): c for c in cases if c["threads"] == threads}
        for group, key in enumerate((c["shape"], c["dtype"]) for c in first):
            if key not in by_name:
                continue
            case = by_name[key]
            best = best_alternative(case)
            for side, (engine, colour) in enumerate([(OURS, OURS_COLOUR), (best, COLOURS.get(best, "#ffffff"))]):
                at = group + (2 * row + side - len(thread_counts) + 0.5) * width
                # Each thread count a little paler than the one before.
                axis.bar(at, share_of_limit(case, engine) or 0, width, color=colour, alpha=1 - 0.35 * row)
    axis.axhline(1, color="#999999", linewidth=1, linestyle="--")
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_ylabel("limit / time")
    axis.set_title("share of the limit: ours (black) and the best alternative (its colour); paler: more threads")
    name_groups(axis, first)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def name_groups(axis, cases: list[dict]) -> None:
    """Names the groups of bars by their cases."""
    labels = [f"{case['shape']} {case['dtype']}\n{case['m']}×{case['n']}×{case['k']}" for case in cases]
    axis.set_xticks(range(len(cases)), labels, fontsize=8)
    axis.set_xlim(-0.6, len(cases) - 0.4)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def write(results: dict, directory: Path) -> None:
    """table.md and peers.png."""
    (directory / "table.md").write_text(table(results))
    try:
        plot(results, directory / "peers.png")
    except ImportError:
        print("no matplotlib: no plot")
