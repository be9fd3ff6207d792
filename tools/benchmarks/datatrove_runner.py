"""datatrove's inference runner over the requests of critic_vllm.py, on a running server.

    python datatrove_runner.py ROOT MODEL BODIES.jsonl FOLDER

Runs in a separate environment (see `peers_env`), without ixt. Prints seconds, processor seconds and
tokens as one JSON object; the time starts with the first request.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter


def main() -> None:
    """Run all requests and write the completions to a file."""
    root, model, file, folder = sys.argv[1:]
    lines = Path(file).read_text().splitlines()
    starts: list[tuple[float, float]] = []
    tokens: list[int] = []

    async def rollout(document: Document, generate: Any) -> Any:
        starts.append((time.perf_counter(), time.process_time()))
        result = await generate(json.loads(document.text))
        tokens.append(result.usage["completion_tokens"])
        return result

    runner = InferenceRunner(
        rollout_fn=rollout,
        config=InferenceConfig("endpoint", model, endpoint_url=root, metric_interval=3600),
        output_writer=JsonlWriter(folder, compression=None),
    )
    runner.run([Document(text=line, id=str(i)) for i, line in enumerate(lines)])
    seconds, cpu = time.perf_counter() - starts[0][0], time.process_time() - starts[0][1]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "tokens": sum(tokens)}))


if __name__ == "__main__":
    main()
