"""The `vllm` critic: a judge behind OpenAI-compatible servers, over HTTP."""
