"""A destination of training metrics: lines in a file."""

from pathlib import Path
from typing import Any


def lines(options: dict[str, Any], context: Any) -> Any:
    """Return a Composer logger that appends metrics that are due to the file `path`."""
    from composer.loggers import LoggerDestination

    class Lines(LoggerDestination):  # type: ignore[misc]
        def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
            if step is None or step % context.every:
                return
            with Path(options["path"]).open("a") as file:
                file.writelines(f"{step} {name} {value}\n" for name, value in metrics.items())

    return Lines()
