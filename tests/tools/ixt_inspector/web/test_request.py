"""Templates of pages."""

import pytest

from ixt_inspector.web.request import templates


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    template = templates().from_string("{{ value|tojson }}")
    assert template.render(value={"x": [1.5]}) == '{"x": [1.5]}'
    with pytest.raises(ValueError, match="JSON compliant"):
        template.render(value={"x": [number]})
