"""uv receives the configuration of pip."""

import subprocess
from types import SimpleNamespace

import install
import pytest

LISTING = r"""global.extra-index-url='https://a.example/simple\nhttps://b.example/simple'
global.cert='/certs/file.pem'
global.index-url='https://file.example/simple'
:env:.index-url='https://environment.example/simple'
:env:.find-links='/wheels'
"""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    answer = SimpleNamespace(stdout=LISTING)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    return install.pip_settings()


def test_the_environment_wins_over_files(settings: dict[str, str]) -> None:
    assert settings["index-url"] == "https://environment.example/simple"
    assert settings["extra-index-url"] == "https://a.example/simple https://b.example/simple"


def test_uv_gets_the_same_places(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in install.UV_NAMES.values():
        monkeypatch.delenv(variable, raising=False)
    environment = install.uv_environment(settings)
    assert environment["UV_DEFAULT_INDEX"] == "https://environment.example/simple"
    assert environment["UV_INDEX"] == "https://a.example/simple https://b.example/simple"
    assert environment["UV_FIND_LINKS"] == "/wheels"
    assert environment["SSL_CERT_FILE"] == "/certs/file.pem"


def test_uv_settings_of_the_user_are_unchanged(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    assert install.uv_environment(settings)["UV_DEFAULT_INDEX"] == "https://mine.example/simple"


def test_pip_continues_where_uv_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        calls.append(command)
        failed = command[1:3] == ["-m", "uv"]
        return SimpleNamespace(returncode=int(failed), stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    install.install_project("dev")
    assert [command[2] for command in calls] == ["pip", "pip", "uv", "pip"]
    assert calls[-1][-2:] == ["-c", str(install.ROOT / "constraints.txt")]
