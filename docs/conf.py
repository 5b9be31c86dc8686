"""Settings of the documentation; `sphinx-build -W -b html docs docs/_build` builds it."""

import os
import re
import textwrap

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import segzoo

project = "segzoo"
author = copyright = "the segzoo authors"
release = version = segzoo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "figures"]
html_theme = "furo"
html_title = "segzoo"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["segzoo.css"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

default_role = "code"  # the docstrings write `code` with single backticks
autodoc_typehints = "none"  # the docstrings give type, shape and range
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Call arguments", "params_style"), ("Reference", "notes_style")]


SECTION = re.compile(r"(Args|Call arguments|Attributes|Returns|Raises|Example|Reference):$")
FORMULA = re.compile(r"\s{4}|[A-Z][\w ]* = ")  # indented, or `IoU = ...`


def to_restructured_text(app, what, name, obj, options, lines):
    """Docstrings hold plain formulas and `code` in single backticks: spell it out for Sphinx."""
    paragraphs, in_sections = [], False
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        in_sections = in_sections or bool(SECTION.match(paragraph.split("\n")[0]))
        if not in_sections and FORMULA.match(paragraph):
            body = textwrap.indent(textwrap.dedent(paragraph), "    ")
            paragraph = f".. code-block:: text\n\n{body}"
        elif ">>>" not in paragraph:
            paragraph = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", paragraph)
        paragraphs.append(paragraph)
    lines[:] = "\n\n".join(paragraphs).split("\n")


def setup(app):
    app.connect("autodoc-process-docstring", to_restructured_text, priority=100)
