"""The elements of an array are those that `json` reads, however the text is cut into chunks."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ixt_data.ingestion.json_elements import split_elements

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@given(st.lists(values, max_size=5), st.integers(1, 50), st.booleans(), st.sampled_from([None, 1]))
def test_split_elements_equals_json(elements, size, escaped, indent):
    text = json.dumps(elements, ensure_ascii=escaped, indent=indent).encode()
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    assert [json.loads(found) for found in split_elements(chunks)] == elements


@given(values, st.lists(values, max_size=3), st.integers(1, 50))
def test_split_elements_finds_the_array_at_a_path(other, elements, size):
    content = {"first": other, "a": {"first": other, "b": elements}, "b": 1}
    text = json.dumps(content).encode()
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    found = [json.loads(element) for element in split_elements(chunks, ["a", "b"])]
    assert found == elements
