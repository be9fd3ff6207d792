"""The vLLM critic: any OpenAI-compatible server as a judge, over HTTP."""
