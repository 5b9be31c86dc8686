"""The documentation is true: its code runs, its tables hold, and no public name is left out."""

import doctest
import inspect
import json
import pathlib
import re
import runpy
import traceback

import pytest

import segzoo
from tests.cases import DOCUMENTED
from tests.pytorch.published import Case

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PUBLIC = ("backbones", "inference", "layers", "losses", "metrics", "models", "rle")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
NAMES = [f"{module}.{name}" for module in PUBLIC for name in getattr(segzoo, module).__all__]

FENCE = re.compile(r"^```(python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page):
    """The code blocks of a page: (number of the first line, code)."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        yield text[: match.start(2)].count("\n") + 1, match[2]


def run(page, line, code, namespace):
    """Run a block, plain or with prompts, and fail with the page and the line."""
    if code.startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(code, namespace, page.name, str(page), line - 1)
        report = []
        results = doctest.DocTestRunner(optionflags=FLAGS).run(
            test, out=report.append, clear_globs=False
        )
        assert not results.failed, "".join(report)
        namespace |= test.globs
        return
    try:
        # Empty lines in front give the page's line numbers in a traceback.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)
    except Exception:
        pytest.fail(f"{page.name}, the block at line {line}:\n{traceback.format_exc()}")


# Pages that trace or train a network of full size are read by the slow tests.
QUICK = {"backbones.md", "rle.md", "troubleshooting.md"}


def lay_out_files(page):
    """Write the files that a page's code reads: a checkpoint, as PyTorch's libraries write it."""
    folder = pathlib.Path("checkpoints/roads")
    if str(folder) in page.read_text():
        folder.mkdir(parents=True)
        Case("smp-Unet-option-depth3").write(folder)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page.name in QUICK else [pytest.mark.slow], id=page.name)
        for page in PAGES
        if any(blocks(page)) and page.name not in ("migration.md", "faq.md")
    ],
)
def test_every_code_block_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out_files(page)
    namespace = {"__name__": "__main__"}
    for line, code in blocks(page):
        run(page, line, code, namespace)


def code_in_tables(page):
    """The code in the second column of every table of three, by the line."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        cells = re.split(r"(?<!\\)\|", line)
        if len(cells) == 5 and "`" in cells[2]:  # old | new | remark
            yield number, re.findall(r"`([^`]+)`", cells[2])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("migration.md", 60), ("faq.md", 20)])
def test_every_row_of_the_tables_runs(tmp_path, monkeypatch, name, least):
    monkeypatch.chdir(tmp_path)
    page = DOCS / name
    lay_out_files(page)
    namespace = {"__name__": "__main__"}
    for line, code in blocks(page):
        run(page, line, code, namespace)
    rows = list(code_in_tables(page))
    assert len(rows) >= least
    for number, spans in rows:
        for span in spans:
            run(page, number, span, namespace)


def documented(name):
    module, attribute = name.split(".")
    return inspect.getdoc(getattr(getattr(segzoo, module), attribute)) or ""


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_says_what_it_takes_and_gives_and_shows_it(name):
    text = documented(name)
    first = text.split("\n")[0]
    assert first.endswith((".", ":")) or text.split("\n\n")[0].endswith("."), first
    sections = set(re.findall(r"^([A-Z][a-z ]+):$", text, re.MULTILINE))
    assert sections & {"Args", "Call arguments", "Attributes"}
    if "Attributes" not in sections or "Args" in sections:
        assert "Returns" in sections
    assert ">>> " in text, "no example"


@pytest.mark.parametrize("name", NAMES)
def test_every_default_is_told_in_one_form(name):
    module, attribute = name.split(".")
    parameters = inspect.signature(getattr(getattr(segzoo, module), attribute)).parameters
    text = documented(name)
    if "Attributes:" in text and "Args:" not in text:  # rows that the library makes
        return
    for argument, parameter in parameters.items():
        if parameter.default is not parameter.empty:
            entry = re.search(rf"^    {argument}: (.*(?:\n        .*)*)", text, re.MULTILINE)
            if entry is None:  # Keras's own, passed on
                assert "**kwargs: " in text, f"{argument} is not explained"
                continue
            assert re.search(r"Defaults\s+to\s", entry[1]), f"{argument}: {entry[1]}"


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_loss")])
def test_the_examples_of_generated_functions_run(name):
    """`--doctest-modules` finds only what a `def` in the module made."""
    test = doctest.DocTestParser().get_doctest(documented(name), {}, name, name, 0)
    assert test.examples
    report = []
    assert not doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append).failed, report


def test_the_reference_lists_every_public_name_once():
    listed = []
    for module in PUBLIC:
        text = (DOCS / "api" / f"{module}.rst").read_text()
        assert f".. currentmodule:: segzoo.{module}\n" in text
        listed += [
            f"{module}.{name}"
            for name in re.findall(r"^\.\. auto(?:class|function):: (\w+)$", text, re.MULTILINE)
        ]
    assert sorted(listed) == sorted(NAMES)


def test_pictures_exist_and_are_small():
    for page in PAGES:
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            picture = page.parent / target
            assert picture.is_file(), f"{page.name}: {target}"
            assert picture.stat().st_size < 200_000, f"{picture.name} is too large"


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_page_names_an_address_of_this_repository():
    for page in PAGES:
        assert not re.search(r"(github|gitlab|readthedocs|pypi)\.\w+/\S*segzoo", page.read_text())


def test_the_citation_names_this_version():
    assert f"\nversion: {segzoo.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_table_of_losses_is_up_to_date():
    text = (DOCS / "losses.md").read_text(encoding="utf-8")
    page = runpy.run_path(str(DOCS / "generate_losses.py"))["page"]
    assert page(text) == text, "run: python docs/generate_losses.py"


def test_the_gallery_is_up_to_date():
    gallery = runpy.run_path(str(DOCS / "generate_gallery.py"))
    text = (DOCS / "gallery.md").read_text()
    assert gallery["page"](json.loads(gallery["TABLE"].read_text())) == text, (
        "run: python docs/generate_gallery.py"
    )
    shown = {path.stem for path in gallery["EXAMPLES"].glob("[!_]*.py")} - {"make_notebooks"}
    assert set(gallery["CARDS"]) == shown
    for picture in gallery["IMAGES"].iterdir():
        assert picture.stat().st_size <= 60_000, f"{picture.name} is too large"


@pytest.mark.slow
def test_the_table_of_models_has_every_row_and_counts_parameters_right():
    """The cheapest rows of the measured table, built anew."""
    table = (DOCS / "models.md").read_text()
    for label in DOCUMENTED:
        assert f"\n| `{label}` |" in table
    for label in ('UNet("mobilenetv2")', "UNetPlusPlus(None)"):
        parameters = DOCUMENTED[label](1).count_params() / 1e6
        assert f"\n| `{label}` | {parameters:.1f} |" in table
