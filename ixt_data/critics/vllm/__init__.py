"""The `vllm` critic: a thinking judge behind any OpenAI-compatible server."""
