"""Draw `docs/images/builders.png`: parameters, CPU time and quickstart Dice of each builder.

    python docs/figures/builders.py

The numbers are those of `docs/figures/data/quickstart.json`, which
`tests/benchmarks/bench_quickstart.py` measures.
"""

import json
import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

HERE = pathlib.Path(__file__).parent
TABLE = HERE / "data" / "quickstart.json"
TARGET = HERE.parent / "images" / "builders.png"
COLUMNS = {
    "parameters": ("parameters, millions", 1e-6, "{:.1f}"),
    "predict_ms": ("CPU time of one 256x256 image, ms", 1, "{:.0f}"),
    "dice": ("Dice of the unseen half", 1, "{:.3f}"),
}


def short(call: str) -> str:
    """A call without the arguments that only make it smaller."""
    return call.split(", ")[0] + (", …)" if ", " in call else "")


def draw(table: dict[str, dict[str, float]], target: pathlib.Path) -> None:
    """One row for each builder, fastest at the top; one panel of bars for each number."""
    calls = sorted(table, key=lambda call: -table[call]["predict_ms"])
    figure, axes = plt.subplots(
        1, 3, figsize=(11, 0.8 + 0.3 * len(calls)), sharey=True, layout="constrained"
    )
    for axis, (key, (title, factor, form)) in zip(axes, COLUMNS.items(), strict=True):
        values = [table[call][key] * factor for call in calls]
        low = max(min(values) - 0.05, 0) if key == "dice" else 0
        bars = axis.barh([short(call) for call in calls], [v - low for v in values], left=low)
        axis.bar_label(bars, [form.format(v) for v in values], padding=3, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_xlim(low, low + 1.18 * (max(values) - low))
        axis.tick_params(labelsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=90)


if __name__ == "__main__":
    draw(json.loads(TABLE.read_text()), TARGET)
