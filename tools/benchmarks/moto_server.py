"""A real S3 server (moto, over HTTP) in a separate process.

python tools/benchmarks/moto_server.py
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

BUCKET = "corpora"
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3_server() -> Iterator[str]:
    """Run a server with an empty bucket, for this process and its children.

    Yields:
        Address of the bucket.
    """
    from boto3 import client

    before = dict(os.environ)
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            if not address:
                raise RuntimeError("the S3 server did not start; is moto[server] installed?")
            os.environ |= {**_ENVIRONMENT, "AWS_ENDPOINT_URL": address}
            os.environ.pop("S3_ENDPOINT_URL", None)
            client("s3").create_bucket(Bucket=BUCKET)
            yield f"s3://{BUCKET}"
        finally:
            server.kill()
            os.environ.clear()
            os.environ |= before


def main() -> None:
    """Print the address, then serve until the process is killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    inner = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        # moto checks and then writes: without the lock, two writers could succeed.
        with one_at_a_time if "HTTP_IF_NONE_MATCH" in environ else nullcontext():
            return inner(environ, start_response)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
