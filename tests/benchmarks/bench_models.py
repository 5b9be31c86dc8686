"""Time and memory of segzoo's models beside their peers.

For each case one worker process per library stays alive, and the two take turns (A B B A ...), so
that a noisy machine slows them alike. A ratio is the peer's time divided by segzoo's, the median
over pairs of neighboring calls: above 1 segzoo is faster. Builds and first calls are repeated too,
each with a new model. Weights are random, the optimizer is SGD, the loss cross-entropy.

    python tests/benchmarks/bench_models.py [--case deeplab unetpp] [--rounds 7] [--write]

`notebook` is the notebooks' own network (`notebooks.py`), in this environment. The others run
where they can be imported: in this environment, under the interpreter named by
`--python keras_hub=PATH`, or in an environment made below `--environments` from `PINS`.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import venv

from model_cases import CASES, FIRST_TARGET

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
# What each peer needs. segmentation_models is made for Keras 2, which TensorFlow 2.15 is the last
# to bring, for Python up to 3.11. PyTorch may be its CPU build.
PINS = {
    "keras_hub": ["keras-hub==0.32.*", "tensorflow"],
    "segmentation_models": ["segmentation-models==1.0.1", "tensorflow-cpu==2.15.*", "numpy<2"],
    "segmentation_models_pytorch": ["segmentation-models-pytorch==0.6.*"],
}
COLUMNS = (
    "case",
    "library",
    "build, s",
    "first predict, s",
    "first train step, s",
    "ratio",
    "tracing, s",
    "ratio",
    "predict, ms",
    "ratio",
    "train step, ms",
    "ratio",
    "peak memory, MiB",
    "ratio",
)
# Of the cases that are built once: segzoo's number / the other's.
PAIRS = {
    "parameters": ("parameters, M", 1e-6, "{:.1f}"),
    "predict": ("predict, ms", 1e3, "{:.0f}"),
    "train": ("train step, ms", 1e3, "{:.0f}"),
    "predict growth": ("predict, MiB", 1, "{:.0f}"),
    "train growth": ("train step, MiB", 1, "{:.0f}"),
}
STEPS = ("predict", "train")


class Worker:
    """A process that holds one library's model and answers commands with numbers."""

    def __init__(self, python, library, case):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, it lives as long as the worker
        self.process = subprocess.Popen(
            [python, HERE / "model_worker.py", library, case],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.versions = self._answer()

    def __call__(self, command):
        print(command, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"a worker ended:\n{self.errors.read()[-2000:]}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def interpreter(library, chosen, folder):
    """The Python that has a library: the chosen one, this one, or a new environment's."""
    if library in chosen:
        return chosen[library]
    if library == "notebook" or importlib.util.find_spec(library):
        return sys.executable
    home = folder / library
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        print(f"making an environment for {library}", file=sys.stderr)
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS[library]], check=True)
    return str(python)


def in_turns(workers, command, rounds=1, first=0):
    """What both workers answer to a command, each in front of the other in turn."""
    answers = [[], []]
    for turn in range(first, first + rounds):
        for k in (turn % 2, 1 - turn % 2):
            answers[k].append(workers[k](command))
    return answers


class Found(dict):
    """Measurements: for every kind those of segzoo and those of the peer."""

    def keep(self, kind, answers, key="time"):
        """Append what both workers answered."""
        for kept, new in zip(self.setdefault(kind, [[], []]), answers, strict=True):
            kept += [answer[key] for answer in new]

    def ratio(self, kind):
        """The peer's number divided by segzoo's, the median over pairs."""
        return statistics.median(b / a for a, b in zip(*self[kind], strict=True))


def race(workers, firsts, rounds):
    """All measurements of a case."""
    found = Found()
    keep = found.keep
    for turn in range(firsts):
        in_turns(workers, "clear")
        keep("build", in_turns(workers, "build", first=turn))
        first_train = in_turns(workers, "train", first=turn)
        keep("first train", first_train)
        keep("tracing", first_train, "tracing")
        if turn == 0:  # before anything but training has left its traces in memory
            in_turns(workers, "train")
            keep("memory", in_turns(workers, "memory train"), "memory")
        keep("first predict", in_turns(workers, "predict", first=turn))
    for step in STEPS:
        in_turns(workers, step)
        keep(step, in_turns(workers, step, rounds))
    return found


def race_steps(workers, rounds):
    """Times and memory of steps alone; memory is what a step adds to the idle process."""
    found = Found()
    in_turns(workers, "build")
    found.keep("parameters", in_turns(workers, "parameters"), "parameters")
    for step in STEPS:
        in_turns(workers, step, 2)  # the first one traces
        found.keep(f"{step} growth", in_turns(workers, f"memory {step}"), "growth")
        found.keep(step, in_turns(workers, step, rounds))
    return found


def title(case):
    """The first cell of a case's rows."""
    batch = "x".join(map(str, case.shape))
    return f"{case.title}, {batch}, {case.classes} class{'es' if case.classes > 1 else ''}"


def rows(case, workers, found):
    """The two lines of the table: segzoo's, then the peer's with the ratios."""
    targets = dict(zip(STEPS, case.targets, strict=True))
    if case.library == "notebook":
        targets |= {"first train": FIRST_TARGET, "tracing": FIRST_TARGET, "memory": 1.0}

    def ratio(kind, k):
        if k == 0:
            return ""
        value = found.ratio(kind)
        target = targets.get(kind)
        return f"{value:.2f}" + (f" {'≥' if value >= target else '<'} {target}" if target else "")

    traced = case.library != "segmentation_models_pytorch"  # which runs eagerly
    for k, worker in enumerate(workers):
        middle = {kind: statistics.median(answers[k]) for kind, answers in found.items()}
        cells = [
            title(case),
            worker.versions,
            f"{middle['build']:.1f}",
            f"{middle['first predict']:.1f}",
            f"{middle['first train']:.1f}",
            ratio("first train", k),
            f"{middle['tracing']:.1f}" if traced or k == 0 else "",
            ratio("tracing", k) if traced else "",
            f"{1e3 * middle['predict']:.0f}",
            ratio("predict", k),
            f"{1e3 * middle['train']:.0f}",
            ratio("train", k),
            f"{middle['memory']:.0f}",
            ratio("memory", k),
        ]
        yield f"| {' | '.join(cells)} |"


def row(case, workers, found):
    """The one line of a case that is built once."""
    cells = [title(case), workers[1].versions]
    for kind, (_, factor, form) in PAIRS.items():
        cells.append(" / ".join(form.format(factor * statistics.median(v)) for v in found[kind]))
        if kind != "parameters":
            cells.append(f"{found.ratio(kind):.2f}")
    return f"| {' | '.join(cells)} |"


def head(builds):
    """The name of a table and its first two lines."""
    columns = COLUMNS
    if not builds:
        columns = ["case", "beside"]
        for kind, (name, _, _) in PAIRS.items():
            columns += [name] if kind == "parameters" else [name, "ratio"]
    rule = f"| --- | --- {'| ---: ' * (len(columns) - 2)}|"
    return "models" if builds else "steps", [f"| {' | '.join(columns)} |", rule]


def cpu():
    """The processor's name and how many of it this process may use."""
    name = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        name = found[1] if found else name
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = f"{count} core{'s' if count > 1 else ''}"
    return f"{name}, {cores}, Python {platform.python_version()}, float32"


def write(lines, builds):
    """Put rows into their table of the page, in place of older rows of the same cases."""
    name, first = head(builds)
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = PAGE.read_text().split(begin)
    old, after = rest.split(end)
    new = {line.split(" | ")[0] for line in lines}
    lines = lines + [line for line in old.splitlines() if line.split(" | ")[0] not in new]
    order = [f"| {title(case)}" for case in CASES.values()]
    kept = [line for name in order for line in lines if line.split(" | ")[0] == name]
    table = "\n".join([f"{cpu()}.", "", *first, *kept])
    PAGE.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


def main():
    """Race the chosen cases and print their rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=15, help="pairs of steps")
    parser.add_argument("--firsts", type=int, default=3, help="pairs of builds and first calls")
    parser.add_argument("--quick", action="store_true", help="3 rounds, one build")
    parser.add_argument("--python", nargs="+", default=[], metavar="LIBRARY=PATH")
    parser.add_argument(
        "--environments",
        type=pathlib.Path,
        default=pathlib.Path(tempfile.gettempdir()) / "segzoo_bench",
        help="where environments of peers are made and looked for",
    )
    parser.add_argument("--write", action="store_true", help="put the rows into docs/benchmarks.md")
    options = parser.parse_args()
    chosen = dict(pair.split("=", 1) for pair in options.python)
    firsts, rounds = (1, 3) if options.quick else (options.firsts, options.rounds)

    print(cpu())
    shown = None
    for name in options.case:
        case = CASES[name]
        if case.builds != shown:
            shown = case.builds
            print("", *head(shown)[1], sep="\n", flush=True)
        pythons = sys.executable, interpreter(case.library, chosen, options.environments)
        libraries = "segzoo", case.library
        workers = [Worker(*pair, name) for pair in zip(pythons, libraries, strict=True)]
        if case.builds:
            lines = list(rows(case, workers, race(workers, firsts, rounds)))
        else:
            lines = [row(case, workers, race_steps(workers, rounds))]
        print(*lines, sep="\n", flush=True)
        if options.write:
            write(lines, case.builds)
        for worker in workers:
            worker.close()


if __name__ == "__main__":
    main()
