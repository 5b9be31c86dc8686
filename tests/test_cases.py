"""The table of cases is whole: every public name has its row, and every row a public name."""

import ast
import inspect
import pathlib

import keras
import pytest

from segzoo import layers, losses, metrics, models
from tests import cases

TESTS = pathlib.Path(__file__).parent


def classes(package, base):
    """The public classes of a package."""
    found = {name: getattr(package, name) for name in package.__all__}
    return {k for k, v in found.items() if inspect.isclass(v) and issubclass(v, base)}


def test_every_builder_has_a_row():
    builders = {name for name in models.__all__ if name[0].isupper()}
    assert set(cases.MODELS) == builders, "tests/cases.py, MODELS: one row for each builder"


def test_every_layer_has_a_row():
    rows = {name.partition("-")[0] for name in cases.LAYERS}
    assert rows == classes(layers, keras.layers.Layer), "tests/cases.py, LAYERS"


def test_every_loss_has_a_row_and_a_function_of_the_same_math():
    rows, others = set(cases.LOSSES), set(cases.LOSS_HELPERS)
    functions = {losses._declare.snake_case(name) + "_loss" for name in rows}
    assert rows | functions | others == set(losses.__all__), "tests/cases.py, LOSSES"
    assert rows <= classes(losses, keras.losses.Loss)


def test_every_metric_has_a_row():
    rows = set(cases.METRICS)
    assert rows == classes(metrics, keras.metrics.Metric), "tests/cases.py, METRICS"
    assert set(metrics.__all__) - rows == set(cases.METRIC_FUNCTIONS)


@pytest.mark.parametrize("table", [cases.LOSS_HELPERS, cases.METRIC_FUNCTIONS])
def test_what_has_no_row_is_called_in_the_file_that_tests_it(table):
    for name, file in table.items():
        tree = ast.parse((TESTS / file).read_text())
        named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        named |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert name in named, f"{file} does not call {name}"


def test_a_builder_is_tested_at_full_size_by_name():
    for text, case in {**cases.DOCUMENTED, **cases.MEASURED}.items():
        assert case.builder in cases.MODELS, text
        signature = inspect.signature(getattr(models, case.builder))
        assert set(case.options) <= set(signature.parameters), text
    for builder, row in cases.MODELS.items():
        assert all(cases.DOCUMENTED[text].builder == builder for text in row.documented)
        assert all(cases.MEASURED[name].builder == builder for name in row.measured)
