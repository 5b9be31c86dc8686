"""Time and memory of segzoo's models beside their peers.

For each case one worker process per library stays alive, and the two take turns (A B B A ...), so
that a noisy machine slows them alike. A ratio is the peer's number divided by segzoo's, the median
over pairs of neighboring calls: above 1 segzoo is faster, or holds less. Builds and first steps are
repeated too, each with a new model. Weights are random, the optimizer is Adam, the loss
cross-entropy.

    python tests/benchmarks/bench_models.py [--case deeplab unetpp] [--rounds 7] [--write]
    python tests/benchmarks/bench_models.py --backend jax torch --case unet-smp

`notebook` is the notebooks' own network (`notebooks.py`), in this environment. The others run
where they can be imported: in this environment, under the interpreter named by
`--python keras_hub=PATH`, or in an environment made below `--environments` from `PINS`.
`--backend` races segzoo on TensorFlow and segzoo on other backends instead.

`--write` keeps what was found in `models.json` beside this file, where other rows stay, and makes
the tables of docs/benchmarks.md from it.
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

from model_cases import CASES

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
RECORD = HERE / "models.json"
BACKENDS = {"jax": "JAX", "torch": "PyTorch"}
# What each peer needs. segmentation_models is made for Keras 2, which TensorFlow 2.15 is the last
# to bring, for Python up to 3.11. PyTorch may be its CPU build.
PINS = {
    "keras_hub": ["keras-hub==0.32.*", "tensorflow"],
    "segmentation_models": ["segmentation-models==1.0.1", "tensorflow-cpu==2.15.*", "numpy<2"],
    "segmentation_models_pytorch": ["segmentation-models-pytorch==0.6.*"],
    "segmodels_keras": ["segmodels-keras==0.1.0.dev13", "tensorflow"],
}
# What is measured: its name on the page, the factor from seconds, MiB or parameters, and its form.
KINDS = {
    "build": ("build, s", 1, "{:.1f}"),
    "first": ("first step, s", 1, "{:.1f}"),
    "first built": ("first step, optimizer built, s", 1, "{:.1f}"),
    "predict": ("predict, ms", 1e3, "{:.0f}"),
    "train": ("train step, ms", 1e3, "{:.0f}"),
    "memory": ("memory, MiB", 1, "{:.0f}"),
}


class Worker:
    """A process that holds one library's model and answers commands with numbers."""

    def __init__(self, python, library, case, backend=None):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, it lives as long as the worker
        self.process = subprocess.Popen(
            [python, HERE / "model_worker.py", library, case],
            env=os.environ | ({"KERAS_BACKEND": backend} if backend else {}),
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
    """What both workers take for everything: a pair of lists for each kind."""
    found = {}

    def keep(kind, answers, key="time"):
        for kept, new in zip(found.setdefault(kind, [[], []]), answers, strict=True):
            kept += [answer[key] for answer in new]

    for turn in range(firsts):
        for kind, command in (("first built", "train_built"), ("first", "train")):
            in_turns(workers, "clear")
            keep("build", in_turns(workers, "build", first=turn))
            keep(kind, in_turns(workers, command, first=turn))
            if not turn and command == "train_built":  # before other models leave their traces
                in_turns(workers, "train", 2)
                keep("memory", in_turns(workers, "memory train"), "memory")
    for step in ("train", "predict"):
        in_turns(workers, step)
        keep(step, in_turns(workers, step, rounds))
    return found


def ratio(pair):
    """The peer's number divided by segzoo's, the median over pairs."""
    return statistics.median(b / a for a, b in zip(*pair, strict=True))


def rounded(number):
    """Six digits: more than the machine repeats, and none that the page rounds twice."""
    return float(f"{number:.6g}")


def measure(name, workers, firsts, rounds):
    """The record of a case: the medians of both sides, and the ratio, of each kind."""
    found = race(workers, firsts, rounds)
    return {
        "case": title(CASES[name]),
        "beside": workers[1].versions,
        "versions": workers[0].versions,
        "machine": cpu(),
        "parameters": [worker("parameters")["parameters"] for worker in workers],
        **{
            kind: [rounded(statistics.median(side)) for side in pair] + [rounded(ratio(pair))]
            for kind, pair in found.items()
        },
    }


def title(case):
    """The first cell of a case's rows."""
    batch = "x".join(map(str, case.shape))
    return f"{case.title}, {batch}, {case.classes} class{'es' if case.classes > 1 else ''}"


def short_row(record):
    """Ratios alone, of what decides."""
    ratios = [f"{record[kind][2]:.2f}" for kind in KINDS]
    return [record["case"].split(",")[0], record["beside"].split(",")[0], *ratios]


def long_row(record):
    """Everything, segzoo's number / the other's."""
    cells = [record["case"], record["beside"]]
    cells.append(" / ".join(f"{count / 1e6:.1f}" for count in record["parameters"]))
    for kind, (_, factor, form) in KINDS.items():
        cells.append(" / ".join(form.format(factor * number) for number in record[kind][:2]))
    return cells


def backend_row(records):
    """segzoo on TensorFlow / JAX / PyTorch, nothing where a backend has not been measured."""
    known = list(records.values())
    cells = [known[0]["case"]]
    for kind, (_, factor, form) in KINDS.items():
        numbers = [statistics.median(record[kind][0] for record in known)]
        numbers += [records[b][kind][1] if b in records else None for b in BACKENDS]
        cells.append(" / ".join("" if n is None else form.format(factor * n) for n in numbers))
    return cells


def table(heads, rows):
    """A Markdown table whose numbers stand to the right."""
    rule = ["---" if head in ("case", "beside") else "---:" for head in heads]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def tables(records):
    """The tables of the page, by the name of their place."""
    peers = [records[name] for name in CASES if name in records]
    backends = {}
    for key, record in records.items():
        name, _, backend = key.partition("@")
        if backend:
            backends.setdefault(name, {})[backend] = record
    names = [name for name, _, _ in KINDS.values()]
    machines = "; ".join(sorted({record["machine"] for record in records.values()}))
    return {
        "ratios": f"{machines}.\n\n"
        + table(
            ["case", "beside", *(KINDS[kind][0].rsplit(",", 1)[0] for kind in KINDS)],
            map(short_row, peers),
        ),
        "models": table(["case", "beside", "parameters, M", *names], map(long_row, peers)),
        "backends": table(
            ["case", *names], [backend_row(backends[name]) for name in CASES if name in backends]
        ),
    }


def write(records):
    """Put the tables into their places on the page."""
    page = PAGE.read_text()
    for name, text in tables(records).items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = page.split(begin)
        after = rest.split(end)[1]
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    PAGE.write_text(page)


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
    parser.add_argument("--backend", nargs="+", default=[], choices=BACKENDS)
    parser.add_argument("--write", action="store_true", help="keep the rows, and make the tables")
    options = parser.parse_args()
    chosen = dict(pair.split("=", 1) for pair in options.python)
    firsts, rounds = (1, 3) if options.quick else (options.firsts, options.rounds)

    print(cpu())
    for name in options.case:
        for backend in options.backend or [None]:
            library = "segzoo" if backend else CASES[name].library
            python = interpreter(backend or library, chosen, options.environments)
            workers = [
                Worker(sys.executable, "segzoo", name, "tensorflow"),
                Worker(python, library, name, backend),
            ]
            record = measure(name, workers, firsts, rounds)
            for worker in workers:
                worker.close()
            print(name, backend or library, json.dumps(record, indent=1), flush=True)
            if options.write:
                records = json.loads(RECORD.read_text()) if RECORD.exists() else {}
                records[f"{name}@{backend}" if backend else name] = record
                lines = (
                    f"{json.dumps(key)}: {json.dumps(records[key])}" for key in sorted(records)
                )
                RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")
                write(records)


if __name__ == "__main__":
    main()
