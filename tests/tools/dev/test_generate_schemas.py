"""The JSON Schemas in the tree are those that the models generate now."""

import pytest
from generate_schemas import FOLDER, encode, schemas


@pytest.mark.parametrize("name", sorted(schemas()))
def test_schema_is_current(name: str) -> None:
    path = FOLDER / name
    assert path.exists(), f"{name} is missing; run: make schemas"
    assert path.read_bytes() == encode(schemas()[name]), f"{name} is old; run: make schemas"


def test_nothing_else_claims_to_be_a_schema() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(schemas())


def test_a_mix_of_the_readme_is_valid_by_its_schema() -> None:
    properties = schemas()["mix.json"]["properties"]
    assert {"store", "snapshot", "critic", "condition", "selections", "seed"} <= set(properties)
