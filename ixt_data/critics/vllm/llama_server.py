"""Serve one GGUF model with llama.cpp over HTTP, until this process ends.

python llama_server.py --model FILE --name NAME --port PORT --threads N --context TOKENS
"""

import argparse
import signal
import threading


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    for number in ("--port", "--threads", "--context", "--slots"):
        parser.add_argument(number, type=int, required=True)
    arguments = parser.parse_args()

    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = arguments.model
    settings.model_alias = {arguments.name}
    settings.hostnames, settings.port = ["127.0.0.1"], arguments.port
    settings.cpuparams.n_threads = arguments.threads
    # Threads that wait in a loop for each other stop a machine with other work.
    settings.cpuparams.poll = 0
    settings.n_parallel = arguments.slots
    # llama.cpp divides its context among the slots.
    settings.n_ctx = arguments.context * arguments.slots
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    server = xllamacpp.Server(settings)
    print(f"listening at {server.listening_address}", flush=True)
    stop.wait()


if __name__ == "__main__":
    main()
