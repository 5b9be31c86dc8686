"""Write the notebooks from the programs. They are never edited by hand.

    python examples/make_notebooks.py

A notebook holds the program's functions, those helpers of `_shared.py` and `_synthetic.py` that
they need, and the body of `main`, cut at its numbered comments.
"""

import ast
import json
import re
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = [
    "flood_deeplab",
    "clouds_unetpp",
    "streets_fcn",
    "roofs_effnet_unet",
    "steel_deeplab",
    "nuclei_unet",
]
INSTALL = """\
SEGZOO = "../.."  # where to install segzoo from: the path of a checkout, or a URL
%pip install -q {SEGZOO} matplotlib scikit-image scipy"""
FURTHER = {"nuclei_unet": "%pip install -q --no-deps stardist"}
SETTING = "quick"
SHARED = ("_shared", "_synthetic")
OPTIONS = f"""\
argv = ["--{SETTING}", "--output", "output"]  # what would follow the program's name"""

Definitions = dict[str, tuple[ast.stmt, str]]  # by name: the statement and its source


def statements(source: str) -> list[tuple[ast.stmt, str]]:
    """The statements of a module, each with its source and the comment right above it."""
    lines, found = source.splitlines(), []
    for node in ast.parse(source).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
        while first > 0 and re.match(r"# (?!---)", lines[first - 1]):
            first -= 1
        found.append((node, "\n".join(lines[first : node.end_lineno])))
    return found


def bound(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def used(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def with_helpers(program: list[ast.stmt], helpers: Definitions) -> Definitions:
    """Those helpers that the program needs, and those that they need, in their own order."""
    needed, new = set(), set().union(*map(used, program))
    while new := (new & set(helpers)) - needed:
        needed |= new
        new = set().union(*(used(helpers[name][0]) for name in new))
    return {name: definition for name, definition in helpers.items() if name in needed}


def imports(nodes: list[ast.stmt], code: list[ast.stmt]) -> str:
    """The import statements that the code needs, sorted: standard library, packages, segzoo."""
    names, lines = set().union(*map(used, code)), set()
    for node in nodes:
        for alias in node.names:
            if (alias.asname or alias.name).split(".")[0] in names:
                part = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
                module = getattr(node, "module", None)
                lines.add((module or alias.name, module is not None, part))
    groups: list[dict[tuple, list[str]]] = [{}, {}, {}]
    for module, is_from, part in sorted(lines):
        top = module.split(".")[0]
        group = 0 if top in sys.stdlib_module_names else 1 + (top == "segzoo")
        groups[group].setdefault((is_from, module), []).append(part)
    texts = [
        "\n".join(
            f"from {module} import {', '.join(parts)}" if is_from else f"import {parts[0]}"
            for (is_from, module), parts in sorted(group.items())
        )
        for group in groups
    ]
    return "\n\n".join(text for text in texts if text)


def steps(main: str) -> list[tuple[str, str]]:
    """The body of `main` as (heading, code), cut at the comments "# 1. ..."."""
    body = textwrap.dedent(main.split("\n", 1)[1])
    parts = re.split(r"^(# \d+\. .*(?:\n#    .*)*)\n", body, flags=re.MULTILINE)
    found = [("", parts[0])]
    for comment, code in zip(parts[1::2], parts[2::2], strict=True):
        found.append((re.sub(r"\n?^# +", " ", comment, flags=re.MULTILINE).strip(), code))
    return found


def cell(kind: str, text: str) -> dict:
    cell = {"cell_type": kind, "metadata": {}, "source": text.strip("\n").splitlines(True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook(program: str) -> str:
    """The notebook of a program, as the text of its file."""
    own = statements((HERE / f"{program}.py").read_text())
    shared = [pair for name in SHARED for pair in statements((HERE / f"{name}.py").read_text())]
    helpers = {name: pair for pair in shared for name in bound(pair[0])}
    imported = [node for node, _ in own + shared if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = [node for node in imported if getattr(node, "module", "") not in SHARED]
    defined = [pair for pair in own if bound(pair[0])]
    helpers = with_helpers([node for node, _ in defined], helpers)
    code = [node for node, _ in [*defined, *helpers.values()]]

    doc = ast.get_docstring(ast.parse((HERE / f"{program}.py").read_text()))
    title, text = doc.split("\n", 1)
    text = re.sub(r"\n\n((?: {4}.*\n?)+)", r"\n\n```\n\1\n```", text)
    cells = [
        cell("code", f"{INSTALL}\n{FURTHER.get(program, '')}"),
        cell("markdown", f"# {title}\n{textwrap.dedent(text)}"),
        cell("code", imports(imported, code)),
        cell("markdown", "## Helpers\n\nWhat the examples share."),
        *(cell("code", source) for _, source in helpers.values()),
        cell("markdown", "## The program"),
        *(cell("code", source) for node, source in defined if bound(node) != ["main"]),
    ]
    (main,) = [source for node, source in defined if bound(node) == ["main"]]
    for number, (heading, body) in enumerate(steps(main)):
        if heading:
            cells.append(cell("markdown", f"### {heading}"))
        cells.append(cell("code", body if number else f"{OPTIONS}\n{body}"))
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    book = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    for program in PROGRAMS:
        path = HERE / "notebooks" / f"{program}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(notebook(program))
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
