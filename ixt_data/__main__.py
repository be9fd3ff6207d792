"""`python -m ixt_data` is the command `ixt`."""

import sys


def run() -> None:
    """Run the command line; Ctrl-C while its modules load ends it with exit code 130."""
    try:
        from ixt_data.cli import main

        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run()
