"""vLLM's own offline `LLM.chat` over requests of ours; runs in vLLM's environment, without ixt.

    python llm_chat.py MODEL BODIES.jsonl KEY=VALUE ...

Answers all of them for every line on stdin, with an empty prefix cache, and prints seconds, the
processor's seconds (with the engine's processes) and tokens as one JSON object each time.
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
    """Of this process and those that it started."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def main() -> None:
    """Answers all bodies in one call a line, after one body that is not timed."""
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
        answers = judge.chat(messages, sampling, chat_template_kwargs=template, use_tqdm=False)
        return list(answers)

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
