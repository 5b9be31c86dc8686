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
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"
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
HEAD = [f"| {' | '.join(COLUMNS)} |", f"| --- | --- {'| ---: ' * (len(COLUMNS) - 2)}|"]
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


def race(workers, firsts, rounds):
    """All measurements of a case: for every kind those of segzoo and those of the peer."""
    found = {}

    def keep(kind, answers, key="time"):
        for kept, new in zip(found.setdefault(kind, [[], []]), answers, strict=True):
            kept += [answer[key] for answer in new]

    for turn in range(firsts):
        in_turns(workers, "clear")
        keep("build", in_turns(workers, "build", first=turn))
        first_train = in_turns(workers, "train", first=turn)
        keep("first train", first_train)
        keep("tracing", first_train, "tracing")
        if turn == 0:  # before anything but training has left its traces in memory
            in_turns(workers, "train")
            keep("memory", in_turns(workers, "memory"), "memory")
        keep("first predict", in_turns(workers, "predict", first=turn))
    for step in STEPS:
        in_turns(workers, step)
        keep(step, in_turns(workers, step, rounds))
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
        value = statistics.median(b / a for a, b in zip(*found[kind], strict=True))
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


def cpu():
    """The processor's name and how many of it this process may use."""
    name = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        name = found[1] if found else name
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {count} cores, Python {platform.python_version()}, float32"


def write(lines):
    """Put rows into the page's table, in place of older rows of the same cases."""
    before, rest = PAGE.read_text().split(BEGIN)
    old, after = rest.split(END)
    new = {line.split(" | ")[0] for line in lines}
    lines = lines + [line for line in old.splitlines() if line.split(" | ")[0] not in new]
    order = [f"| {title(case)}" for case in CASES.values()]
    kept = [line for name in order for line in lines if line.split(" | ")[0] == name]
    table = "\n".join([f"{cpu()}.", "", *HEAD, *kept])
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")


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

    print(f"{cpu()}\n")
    print(*HEAD, sep="\n", flush=True)
    for name in options.case:
        case = CASES[name]
        pythons = sys.executable, interpreter(case.library, chosen, options.environments)
        libraries = "segzoo", case.library
        workers = [Worker(*pair, name) for pair in zip(pythons, libraries, strict=True)]
        lines = list(rows(case, workers, race(workers, firsts, rounds)))
        print(*lines, sep="\n", flush=True)
        if options.write:
            write(lines)
        for worker in workers:
            worker.close()


if __name__ == "__main__":
    main()
