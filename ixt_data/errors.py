"""What can go wrong, one class per situation. The command line prints any of these in one line."""

import importlib.util


class IxtError(Exception):
    """Root of every error that a user can cause or mend."""


class ConfigError(IxtError):
    """A configuration file or option is wrong; the message holds the full key path."""


class StoreError(IxtError):
    """The store is missing, of another format, or not where it was said to be."""


class CorruptError(StoreError):
    """Bytes in the store are not what was written; the message names the path."""


class SnapshotError(StoreError):
    """A version or tag does not exist, or was let go by garbage collection."""


class CommitError(IxtError):
    """A commit did not land. Nothing of it is visible."""


class AlreadyDone(CommitError):
    """Another worker published the same unit first; this work is dropped."""


class Aborted(CommitError):
    """Garbage collection fenced this transaction as stale; its files may be gone."""


class QueryError(IxtError):
    """A SQL statement was refused or failed; `reason` leaves out where in the statement."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{reason} {place}".rstrip())
        self.reason = reason


class Cancelled(QueryError):
    """Someone interrupted the query."""


class CriticError(IxtError):
    """A critic cannot be loaded, or answered against its contract."""


class MixError(IxtError):
    """A mix cannot be planned from this snapshot."""


class FingerprintError(IxtError):
    """A resume was asked for with another snapshot, plan or tokenizer than the run began with."""


class PluginError(IxtError):
    """A plugin cannot be loaded, or two plugins use one name; see `ixt plugins`."""


class MissingExtra(IxtError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Run: pip install 'ixt[{extra}]'")

    @classmethod
    def require(cls, extra: str, *packages: str) -> None:
        """Check that the packages of an extra are installed, without importing them.

        Raises:
            MissingExtra: one is not; the message has the command that installs it.
        """
        for package in packages:
            if importlib.util.find_spec(package) is None:
                raise cls(package, extra)
