"""An exported model behind a real vLLM on the CPU: asked with and without feedback, it writes ours.

A small model learns conversations through the command line. Half of the answers are none, and the
critique says so; so it is a model of documents (completions) and of conversations (chat) at once.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request as Post
from urllib.request import urlopen

import pytest
import yaml

pytestmark = pytest.mark.vllm

LIMIT = 1200.0
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "HF_HUB_OFFLINE": "1",
}
# Heads of 32 are the smallest that vLLM has attention for on a CPU.
MODEL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "rope_theta": 1000.0,
    "tie_word_embeddings": False,
}
QUESTIONS = ("what is 3 plus 4 ?", "what is 9 plus 9 ?", "what is 1 plus 6 ?")


def ixt(folder: Path, *arguments: object) -> Any:
    command = [sys.executable, "-m", "ixt_data", *map(str, arguments), "--output", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def corpus(folder: Path) -> None:
    """Sums in conversation, half of them unanswered, and what a critic says of them."""
    rng = random.Random(0)
    with (folder / "talk.jsonl").open("w") as talk, (folder / "said.jsonl").open("w") as said:
        for number in range(400):
            a, b, lazy = rng.randrange(10), rng.randrange(10), rng.randrange(2)
            asked = {"role": "user", "content": f"what is {a} plus {b} ?"}
            answer = {"role": "assistant", "content": "not known" if lazy else f"it is {a + b}"}
            talk.write(json.dumps({"id": str(number), "messages": [asked, answer]}) + "\n")
            critique = ("right", "no answer")[lazy]
            judged = {"source_id": str(number), "critique": critique, "score": 1.0 - lazy}
            said.write(json.dumps(judged) + "\n")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    corpus(folder)
    ixt(folder, "init")
    ixt(folder, "ingest", "--corpus", "talk", "--id-field", "id", "talk.jsonl")
    imported = ("--critic", "import", "-O", "path=said.jsonl")
    ixt(folder, "critique", "--corpus", "talk", *imported)
    tree = {
        "mix": {"store": str(folder / "ixt"), "critic": "import", "condition": {"cooldown": 0}},
        "run_folder": str(folder / "run"),
        "stage": "sft",
        "model": {"config": MODEL, "init": {"embedding_std": 0.5}},
        "tokenizer": {"train": {"kind": "bpe", "vocab_size": 400}},
        "max_length": 128,
        "global_batch_size": 32,
        "duration": "80ba",
        "optimizer": {"lr": 5e-3},
        "eval": {"samples": 0},
        "threads": 1,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    ixt(folder, "train", "run.yaml")
    ixt(folder, "export-model", "run", "model")
    return folder / "model"


@pytest.fixture(scope="module")
def served(exported: Path) -> Iterator[str]:
    """The address of a vLLM that serves the exported folder."""
    home = os.environ.get("IXT_VLLM_HOME")
    assert home, "run `make test-vllm`: it sets up a vLLM and says where it is"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(f"{home}/bin/vllm", "serve", str(exported), "--served-model-name", "mine"),
        *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", "128"),
        *("--dtype", "float32", "--enforce-eager"),
    ]
    log = exported.parent / "vllm.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, env=os.environ | ENVIRONMENT, stdout=out, stderr=out, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + LIMIT
        while not healthy(address):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, "vLLM does not answer"
            time.sleep(1)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def healthy(address: str) -> bool:
    try:
        with urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def ask(address: str, path: str, **body: Any) -> dict[str, Any]:
    sent = json.dumps({"model": "mine", "temperature": 0, "max_tokens": 16, **body}).encode()
    post = Post(f"{address}/v1/{path}", sent, {"Content-Type": "application/json"})
    with urlopen(post, timeout=300) as answer:
        return dict(json.load(answer)["choices"][0])


def test_completions_under_each_feedback_are_ours(served: str, exported: Path) -> None:
    from ixt_train.inference.decoding import GenerationPrefix, TokenSampling, generate_all
    from ixt_train.inference.loaded_model import choose_feedback, feedback_prefix, load_model

    trained = load_model(exported)
    conditioner, decode = trained.conditioner, trained.tokenizer.decode
    card = json.loads((exported / "ixt.json").read_text())
    ban = {str(token): -100 for token in card["banned_tokens"]}
    found = {}
    for feedback in ("best", "worst", "none"):
        choice = choose_feedback(conditioner, feedback)
        prefixes = feedback_prefix(conditioner, choice)
        asked = {
            text: prefixes + tuple(conditioner.encoder.document(text).tolist())
            for text in ("it is", "what is 3 plus")
        }
        prompts = {card["prefixes"][feedback] + text: ids for text, ids in asked.items()}
        # A conversation, too, is a text to complete.
        talk = tuple(conditioner.prompt(QUESTIONS[0], choice).tolist())
        for prompt, ids in {**prompts, decode(talk): talk}.items():
            got = ask(served, "completions", prompt=prompt, logit_bias=ban)
            (ours,) = generate_all(
                trained.model, conditioner, [GenerationPrefix(ids, ids, 16)], TokenSampling()
            )
            assert got["text"] == decode(ours.ids)
            assert got["finish_reason"] == ("stop" if ours.ending == "end" else "length")
            found[feedback] = got["text"]
    assert found["best"].startswith("it is ")
    assert found["worst"] == "not known"


def test_chat_asks_for_the_best_and_can_be_asked_for_less(served: str, exported: Path) -> None:
    from ixt_train.inference.generation import generate
    from ixt_train.inference.loaded_model import load_model

    trained = load_model(exported)
    prefix = json.loads((exported / "ixt.json").read_text())["prefixes"]
    prefixes = {name: text.removeprefix(prefix["none"]) for name, text in prefix.items()}
    said = {}
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        for feedback in ("best", "worst", "none"):
            asked = {} if feedback == "best" else {"feedback": prefixes[feedback]}
            got = ask(served, "chat/completions", messages=messages, chat_template_kwargs=asked)
            ours = generate(trained, question, feedback, max_new_tokens=16)
            assert got["message"]["content"] == ours.text
            assert got["finish_reason"] == "stop"
            said[question, feedback] = ours.text
    assert all(said[q, "best"].startswith("it is ") for q in QUESTIONS)
    assert all(said[q, "worst"] == "not known" for q in QUESTIONS)
