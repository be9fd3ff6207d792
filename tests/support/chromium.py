"""Prints where a Chromium is; installs Debian's if there is none and one may."""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The Chromium that IXT_CHROMIUM names, or one on the path."""
    return os.environ.get("IXT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def install() -> None:
    if shutil.which("apt-get") is None:
        return
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends"]):
        packages = ["chromium"] if arguments[0] == "install" else []
        command = [*prefix, "apt-get", *arguments, *packages]
        try:
            subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
        except FileNotFoundError:
            return


if __name__ == "__main__":
    if find() is None:
        install()
    if (found := find()) is None:
        sys.exit(
            "no Chromium: looked for " + ", ".join(NAMES) + ", and apt-get could not install one. "
            "Install it, or name it: IXT_CHROMIUM=/path/to/chrome make test-browser"
        )
    print(found)
