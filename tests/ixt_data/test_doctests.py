"""The examples in the docstrings of the public names of `ixt_data` run and print what they show."""

import doctest
import inspect

import pytest

import ixt_data

WITH_EXAMPLES = ("open_store", "ingest", "plan_mix", "load_mix", "Document", "Span", "Mix")
NAMES = sorted(set(ixt_data.__all__) - {"__version__"})


def find_examples(name: str) -> list[doctest.DocTest]:
    public = getattr(ixt_data, name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for part in inspect.getmro(public) if inspect.isclass(public) else (public,):
        module = inspect.getmodule(part)
        if module is not None and module.__name__.startswith("ixt_data"):
            names = dict(vars(module))
            found += finder.find(part, f"ixt_data.{name}", module=module, globs=names)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", NAMES)
def test_doctest_of_public_name_passes(name: str) -> None:
    assert inspect.getdoc(getattr(ixt_data, name)), f"ixt_data.{name} has no docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in find_examples(name):
        report: list[str] = []
        runner.run(example, out=report.append)
        assert report == [], "".join(report)


def test_main_public_names_have_examples() -> None:
    assert [name for name in WITH_EXAMPLES if not find_examples(name)] == []
    assert any(test.name == "ixt_data.Store.sql" for test in find_examples("Store"))
