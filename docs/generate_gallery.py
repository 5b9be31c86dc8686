"""Write the gallery: `python docs/generate_gallery.py`.

With `--run` and names of examples, or with `--run all`, these are run first, each in a process of
its own and on one core: their time, their score and their picture are kept in
`docs/figures/data/gallery.json` and `docs/images/gallery`. The page is made of these and of the
programs' docstrings.
"""

import argparse
import ast
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

DOCS = pathlib.Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
PAGE = DOCS / "gallery.md"
TABLE = DOCS / "figures" / "data" / "gallery.json"
IMAGES = DOCS / "images" / "gallery"
WIDTH, COLORS, LARGEST = 720, (96, 64, 48, 32), 60_000  # of a picture: pixels, palette, bytes
# The examples in the order of the page, each with its setting, its picture and how many rows of it
# are shown.
CARDS = {
    "quickstart": ("", "coins.png", 1),
    "nuclei_unet": ("--quick", "nuclei.png", 1),
    "large_scene": ("--quick", "prediction.png", 1),
    "flood_deeplab": ("--quick", "predictions.png", 2),
    "roofs_effnet_unet": ("--quick", "predictions.png", 2),
    "streets_fcn": ("--quick", "predictions.png", 2),
    "clouds_unetpp": ("--quick", "predictions.png", 2),
    "steel_deeplab": ("--quick", "predictions.png", 3),
    "distributed": ("", "logs.json", 1),
}


def measure(name: str) -> dict:
    """Run an example on one core, keep its picture, and return its seconds and its score."""
    setting, picture, rows = CARDS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, EXAMPLES / f"{name}.py", "--output", folder, *setting.split()]
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # inherited by the example
        start = time.perf_counter()
        run = subprocess.run(command, text=True, stdout=subprocess.PIPE, env=os.environ | CALM)
        seconds = time.perf_counter() - start
        if run.returncode:
            raise SystemExit(f"{run.stdout}{name} ended with status {run.returncode}")
        found = pathlib.Path(folder, picture)
        if picture.endswith(".json"):
            draw_logs(json.loads(found.read_text()), found.with_suffix(".png"))
            found = found.with_suffix(".png")
        keep(found, rows, IMAGES / f"{name}.png")
    lines = [line for line in run.stdout.splitlines() if re.match(r"held-out|epoch \d+: ", line)]
    return {"seconds": round(seconds), "printed": lines[-1]}


CALM = {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "Agg"}


def keep(source: pathlib.Path, rows: int, target: pathlib.Path) -> None:
    """The titles and first rows of a picture, small and with few colors."""
    with Image.open(source) as file:
        pixels = np.asarray(file.convert("RGB"))
    drawn = (pixels.min(axis=(1, 2)) < 250).astype(int)  # lines that are not white
    ends = np.flatnonzero(np.diff(drawn, append=0) < 0)
    starts = np.flatnonzero(np.diff(drawn, prepend=0) > 0)
    tall = [end for start, end in zip(starts, ends, strict=True) if end - start > 40]
    image = Image.fromarray(pixels[starts[0] : tall[rows - 1] + 1])
    size = (WIDTH, round(image.height * WIDTH / image.width))
    image = image.resize(size, Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    for colors in COLORS:
        image.quantize(colors, Image.Quantize.MEDIANCUT).save(target, optimize=True)
        if target.stat().st_size <= LARGEST:
            break


def draw_logs(logs: list[dict[str, float]], target: pathlib.Path) -> None:
    """Loss and scores by epoch."""
    figure, axis = plt.subplots(figsize=(7.2, 2.6), layout="constrained")
    for key in logs[0]:
        axis.plot(range(1, len(logs) + 1), [values[key] for values in logs], label=key)
    axis.set_xlabel("epoch")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(target, dpi=100)


def card(name: str, measured: dict) -> str:
    """The HTML around a card is its own block, so that its text stays Markdown."""
    doc = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
    title, body = doc.split("\n", 1)
    text = [part for part in body.strip().split("\n\n") if not part.startswith("    ")]
    links = [f"[program](../examples/{name}.py)"]
    if (EXAMPLES / "notebooks" / f"{name}.ipynb").exists():
        links.append(f"[notebook](../examples/notebooks/{name}.ipynb)")
    command = f"{name}.py {CARDS[name][0]}".strip()
    minutes = measured["seconds"] / 60
    length = f"{minutes:.0f} min" if minutes >= 2 else f"{measured['seconds']} s"
    return f"""\
<div class="card">

![{title}](images/gallery/{name}.png)

**{title}**

{fill(text[0])}

`{measured["printed"]}`

`{command}` · {length} · {" · ".join(links)}

</div>
"""


def fill(text: str) -> str:
    return "\n".join(textwrap.wrap(" ".join(text.split()), 100, break_long_words=False))


def page(measured: dict[str, dict]) -> str:
    """The gallery, from what was measured and from the programs themselves."""
    cards = "\n".join(card(name, measured[name]) for name in CARDS if name in measured)
    return HEAD + cards + "\n</div>\n"


HEAD = """\
<!-- made by generate_gallery.py -->
# Gallery

Programs in `examples/`, what comes out of them on images that no training step has seen, and how
long they take on one core of a server's CPU, from the import to the last picture. Nothing is
downloaded while they run: the coins are a photograph in scikit-image, the nuclei a micrograph in
another package, and the others paint a small synthetic set in the layout of a real one, which
`--data` puts in its place. `--quick` is a smaller and shorter setting.

```console
pip install -e ".[examples]"
python examples/flood_deeplab.py --help
```

<div class="cards">

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs="+", metavar="NAME", default=[], help="or all")
    names = parser.parse_args().run
    measured = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    TABLE.parent.mkdir(exist_ok=True)
    for name in CARDS if names == ["all"] else names:
        measured[name] = measure(name)
        print(name, measured[name], flush=True)
        TABLE.write_text(json.dumps(measured, indent=1) + "\n")
    PAGE.write_text(page(measured))


if __name__ == "__main__":
    main()
