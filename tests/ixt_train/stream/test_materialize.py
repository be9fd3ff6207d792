import json
import tempfile

import numpy as np
import pytest
import yaml
from critiqued import critiqued_store, words_tokenizer
from streaming import StreamingDataset
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError
from ixt_data.mix import Mix, plan_mix
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.materialize import materialize_mix
from ixt_train.stream.mix_stream import MixStream

MIX = Mix(critic="numbers", selections=[{"name": "good", "where": "score > 0.5"}])


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path_factory, monkeypatch):
    # A socket of a worker allows no long path.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("t")))


@pytest.fixture
def store(tmp_path):
    return critiqued_store(tmp_path / "store", 200)


def test_materialized_samples_are_read_by_stock_streaming_in_order(store, tmp_path):
    tokenizer = words_tokenizer()
    report = materialize_mix(store, MIX, tokenizer, tmp_path / "out", 32, shard_bytes=4096)
    exported = StreamingDataset(local=str(tmp_path / "out"), batch_size=1)
    # As llm-foundry reads it: StreamingTextDataset._read_binary_tokenized_sample.
    found = [np.frombuffer(row["tokens"], np.int64) for row in exported]
    assert len(found) == report.rows > 20
    assert {len(row) for row in found} == {32}
    plan = plan_mix(MIX, store=store)
    conditioner = Conditioner(tokenizer, MIX.condition)
    with MixStream(
        plan, conditioner, store=store.root, local=tmp_path / "l", batch_size=1
    ) as stream:
        expected = np.concatenate([sample["input_ids"] for sample in stream])
    assert np.array_equal(np.concatenate(found), expected[: report.rows * 32])
    assert report.leftover_tokens == len(expected) - report.rows * 32


def test_materialize_a_mix_that_fills_no_row_raises(store, tmp_path):
    with pytest.raises(ConfigError, match="do not fill"):
        materialize_mix(store, MIX, words_tokenizer(), tmp_path / "out", 1 << 20)
    assert not (tmp_path / "out").exists()


def run(*arguments: object):
    return CliRunner().invoke(build(), [*map(str, arguments), "--output", "json"])


def test_materialize_on_the_command_line(store, tmp_path):
    words_tokenizer().save_pretrained(tmp_path / "tokenizer")
    export = ["export", tmp_path / "all", "--format", "packed", "-O", "max_length=64",
              "-O", f"tokenizer={tmp_path / 'tokenizer'}", "--store", store.root]  # fmt: skip
    done = run(*export, "--where", "score > 0.5")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    plan = plan_mix(Mix(critic="numbers", selections=[MIX.selections[0]]), store=store)
    assert found["samples"] == plan.samples
    taken = run(*export)
    assert "--overwrite" in str(taken.exception)
    mix = tmp_path / "mix.yaml"
    mix.write_text(yaml.safe_dump({"store": store.root, "critic": "numbers"}))
    done = run(*export, "--overwrite", "-O", f"mix={mix}", "-O", "samples=90", "-O", "holdout=0.2")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["samples"] == 90


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "parket"], "valid are delta, hf, jsonl, mds, megatron, packed, parquet"),
        (["--format", "packed"], "tokenizer"),
        (["--format", "mds", "-O", "tokenizer=x"], "tokenizer"),
        (["--format", "packed", "-O", "tokenizer"], "is not KEY=VALUE"),
        (["--format", "packed", "-O", "tokenizer=x", "-O", "mix=m", "--where", "true"],
         "the mix states"),
    ],
)  # fmt: skip
def test_materialize_with_conflicting_options_raises(store, arguments, said):
    command = ["export", "out", "--store", store.root, *arguments]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("\u2502", "").split())
