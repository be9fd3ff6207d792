"""The examples in docstrings of ixt_train run as written."""

import doctest
from pathlib import Path
from typing import Any

import pytest

from ixt_train import config, evaluation, inference, runs

EXAMPLES = (
    (config, "load_train_config"),
    (runs, "read_metrics"),
    (inference, "generate"),
    (evaluation, "evaluate"),
)


@pytest.mark.parametrize(
    ("package", "name"), EXAMPLES, ids=lambda value: getattr(value, "__name__", value)
)
def test_docstring_examples_of_a_public_function_run(
    package: Any, name: str, trained_run: Path
) -> None:
    function = getattr(package, name)
    values = {"run": trained_run, "load_model": inference.load_model, name: function}
    test = doctest.DocTestParser().get_doctest(function.__doc__, values, name, None, None)
    assert test.examples
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert results.failed == 0
