"""Files from elsewhere are data: nothing in them is run."""

from pathlib import Path

import pytest

from ixt_data.errors import IxtError
from ixt_data.mix import load_mix

CALLS = [
    "!!python/object/apply:os.mkdir [{place}]",
    "!!python/object/new:os.mkdir [{place}]",
    "!!python/name:os.system",
]


@pytest.mark.parametrize("call", CALLS)
def test_yaml_calls_nothing(tmp_path: Path, call: str) -> None:
    marker, mix = tmp_path / "ran", tmp_path / "mix.yaml"
    evil = call.format(place=marker)
    mix.write_text(f"store: {evil}\nselections: []\n")
    with pytest.raises(IxtError, match=r"mix\.yaml"):
        load_mix(mix)
    mix.write_text("store: ./ixt\nselections: []\n")
    with pytest.raises(IxtError):
        load_mix(mix, [f"store={evil}"])
    assert not marker.exists()
