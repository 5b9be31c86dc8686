"""Every property of every builder, tried one after the other, and the table of what works.

    python -m tests.platform.matrix try --record newest.json
    KERAS_BACKEND=torch python -m tests.platform.matrix open FOLDER "a title" --record torch.json
    python -m tests.platform.matrix table newest.json torch.json

`.ci/matrix` calls all three; the table goes into docs/deploy.md, between its two comments. `open`
reads what `python -m tests.platform.portable write FOLDER` wrote.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

import keras

from tests.cases import FIRST
from tests.platform import coins, export, portable, precision

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "deploy.md"
PLACE = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)


def replicas(mode, **environment):
    """A check that trains on one device and on two, in a process of its own."""

    def agree(*arguments, **more):
        run = subprocess.run(
            [sys.executable, "-m", "tests.platform.replicas", mode, *arguments],
            env={**os.environ, **environment, **more},
            capture_output=True,
            text=True,
        )
        differ = "Not equal to tolerance" in run.stderr
        assert differ or run.returncode == 0, run.stderr.strip().splitlines()[-1]
        return not differ

    def check(build, folder):
        name = next(name for name, known in FIRST.items() if known is build)
        if not agree(name):
            assert agree(name, "--float64", JAX_ENABLE_X64="1"), "two devices differ from one"
            return "in float64; in float32 rounding grows"

    return check


PROPERTIES = {
    "mixed_float16": precision.mixed_float16,
    "mixed_bfloat16": precision.mixed_bfloat16,
    "XLA, float32": precision.xla_float32,
    "XLA, 16 bit": precision.xla_mixed,
    "SavedModel": export.saved_model,
    "ONNX": export.onnx,
    "LiteRT, float32": export.litert_float32,
    "LiteRT, float16": export.litert_float16,
    "LiteRT, int8": coins.litert_int8,
    "MirroredStrategy": replicas("mirrored"),
    "MultiWorkerMirroredStrategy, own loop": replicas("workers"),
    "DataParallel on JAX": replicas(
        "jax",
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
    ),
}


# Whose releases matter to what `try` tries, beside Keras and the backend in use.
CONVERTERS = ("jax", "onnx", "onnxruntime", "tf2onnx")


def attempt(check, *arguments):
    """`"works"` and the figure that a check returns, or the last line of what went wrong."""
    try:
        figure = check(*arguments)
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        return f"{type(error).__name__}: {lines[-1]}"
    return f"works, {figure}" if figure else "works"


def try_all(names, properties):
    """The outcome of some properties for some builders."""
    outcomes = {}
    for title in properties:
        check = PROPERTIES[title]
        for name in names:
            keras.utils.set_random_seed(0)
            with tempfile.TemporaryDirectory() as folder:
                outcome = attempt(check, FIRST[name], pathlib.Path(folder))
            print(f"{title}: {name}: {outcome}", flush=True)
            outcomes.setdefault(title, {})[name] = outcome
    return outcomes


def versions(*more):
    """Python, Keras, the backend in use, and other packages."""
    packages = ("keras", keras.backend.backend(), *more)
    known = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return [f"Python {platform.python_version()}", *known]


def table(records):
    """Properties and their outcomes, in Markdown, and the versions below."""
    rows, tried = {}, []
    for record in records:
        for title, outcomes in record["outcomes"].items():
            rows.setdefault(title, {}).update(outcomes)
        tried += [version for version in record["versions"] if version not in tried]
    lines = ["| tried | outcome |", "| --- | --- |"]
    for title, outcomes in rows.items():
        alike = {}
        for name in FIRST:
            outcome = outcomes.get(name, "not tried").removeprefix("AssertionError: ")
            alike.setdefault(outcome, []).append(f"`{name}`")
        cells = (
            f"{outcome}: {'every builder' if len(names) == len(FIRST) else ', '.join(names)}"
            for outcome, names in sorted(alike.items())
        )
        lines.append(f"| {title} | {'<br>'.join(cells)} |")
    return "\n".join([*lines, "", "Tried on " + ", ".join(tried) + "."])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    trying = commands.add_parser("try", help="try the properties of this environment")
    trying.add_argument("--builders", nargs="+", default=list(FIRST), choices=FIRST)
    trying.add_argument(
        "--properties",
        nargs="+",
        default=list(PROPERTIES),
        choices=PROPERTIES,
        metavar="PROPERTY",
        help="of these: " + "; ".join(PROPERTIES),
    )
    opening = commands.add_parser("open", help="open files written elsewhere")
    opening.add_argument("folder", type=pathlib.Path)
    opening.add_argument("title", help="the row of the table")
    for command in (trying, opening):
        command.add_argument("--record", type=pathlib.Path, required=True)
    writing = commands.add_parser("table", help="write the table into docs/deploy.md")
    writing.add_argument("records", type=pathlib.Path, nargs="+")
    options = parser.parse_args()

    if options.command == "table":
        text = table([json.loads(path.read_text()) for path in options.records])
        page = PAGE.read_text()
        PAGE.write_text(PLACE.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page))
        return
    if options.command == "try":
        outcomes = try_all(options.builders, options.properties)
        known = versions(*CONVERTERS)
    else:
        found = {name: attempt(portable.read, options.folder, [name]) for name in FIRST}
        outcomes, known = {options.title: found}, versions()
    options.record.write_text(json.dumps({"versions": known, "outcomes": outcomes}, indent=2))
    cells = {title: row.values() for title, row in outcomes.items()}
    failed = [title for title, row in cells.items() if not all(c.startswith("works") for c in row)]
    sys.exit(f"these do not work everywhere: {failed}" if failed else 0)


if __name__ == "__main__":
    main()
