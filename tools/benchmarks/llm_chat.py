"""vLLM's offline `LLM.chat` over the requests of critic_vllm.py, in vLLM's environment.

    python llm_chat.py MODEL BODIES.jsonl KEY=VALUE ...

For every line on stdin, runs all requests with an empty prefix cache, and prints seconds, processor
seconds (with the processes of the engine) and tokens as one JSON object.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from vllm import LLM, SamplingParams
from vllm.sampling_params import StructuredOutputsParams


def cpu_seconds() -> float:
    """Return the processor seconds of this process and its children."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def main() -> None:
    """Run all requests in one call per line, after one request that is not timed."""
    model, file, *options = sys.argv[1:]
    bodies = [json.loads(line) for line in Path(file).read_text().splitlines()]
    settings = {key: json.loads(value) for key, _, value in (o.partition("=") for o in options)}
    judge = LLM(model, **settings)
    schema = bodies[0]["response_format"]["json_schema"]["schema"]
    budget = bodies[0].get("thinking_token_budget")
    sampling = SamplingParams(
        temperature=bodies[0]["temperature"],
        top_p=bodies[0]["top_p"],
        max_tokens=bodies[0]["max_tokens"],
        structured_outputs=StructuredOutputsParams(json=schema),
        **({"thinking_token_budget": budget} if budget else {}),
    )
    template = bodies[0].get("chat_template_kwargs")

    def chat(some: list[dict[str, Any]]) -> list[Any]:
        messages = [body["messages"] for body in some]
        completions = judge.chat(messages, sampling, chat_template_kwargs=template, use_tqdm=False)
        return list(completions)

    for _ in sys.stdin:
        judge.reset_prefix_cache()
        chat(bodies[:1])
        start, cpu = time.perf_counter(), cpu_seconds()
        outputs = chat(bodies)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(json.dumps({"seconds": seconds, "cpu": cpu, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
