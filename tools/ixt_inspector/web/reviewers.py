"""The people who label with `ixt serve --write`, one per name.

A person chooses a name once per browser. The cookie of a name is signed with the server's token,
and a name belongs to the first browser that chose it, as long as the server runs.
"""

import hashlib
import hmac
import secrets
import threading

from ixt_data.errors import ConfigError


class Reviewers:
    """The people who label: the names that browsers have chosen."""

    def __init__(self, token: str) -> None:
        self._key = token.encode()
        self._lock = threading.Lock()
        self._keys_of: dict[str, str] = {}

    def sign(self, text: str) -> str:
        """Return a signature that only this server can compute."""
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()

    def read(self, cookie: str) -> str:
        """Return the name in a cookie; empty if it has none, or was not signed here."""
        encoded, _, rest = cookie.partition(".")
        browser, _, signature = rest.partition(".")
        try:
            name = bytes.fromhex(encoded).decode()
        except ValueError:
            return ""
        if not hmac.compare_digest(signature.encode(), self.sign(f"{name}.{browser}").encode()):
            return ""
        with self._lock:
            # After a restart, a name belongs to the first browser that shows its cookie.
            return name if self._keys_of.setdefault(name, browser) == browser else ""

    def claim(self, name: str) -> str:
        """Return the cookie of a name for a browser without one.

        Raises:
            ConfigError: another browser has the name.
        """
        browser = secrets.token_hex(16)
        with self._lock:
            if name in self._keys_of:
                raise ConfigError(
                    f"{name!r} is the name of another browser on this server: choose another one, "
                    f"such as {name + ' 2'!r}"
                )
            self._keys_of[name] = browser
        return f"{name.encode().hex()}.{browser}.{self.sign(f'{name}.{browser}')}"

    def release(self, name: str) -> None:
        """Give up a claimed name, whose cookie no browser has received."""
        with self._lock:
            self._keys_of.pop(name, None)
