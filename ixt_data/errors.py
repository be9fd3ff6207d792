"""Exceptions, one class per situation. The command line prints each of them in one line."""

import importlib.util


class IxtError(Exception):
    """Base class of every error that a user can cause or fix."""


class ConfigError(IxtError):
    """An invalid configuration file or option; the message contains the full key path."""


class RejectedConversation(ConfigError):
    """A conversation that a chat template rejects, or in which its turns cannot be found."""


class UsageError(ConfigError):
    """Options of a command do not go together; the command line exits with code 2."""


class StoreError(IxtError):
    """A store that is missing, has another format, or cannot be created at this root."""


class CorruptError(StoreError):
    """Bytes in the store that differ from what was written; the message names the path."""


class SnapshotError(StoreError):
    """A version or tag that does not exist, or that garbage collection has expired."""


class UnknownDocument(SnapshotError):
    """A document that a snapshot does not have."""


class WriteStateUnknown(StoreError):
    """A write that failed without a definite response: the storage may have performed it."""


class CommitError(IxtError):
    """A commit that failed. Readers see nothing of it, unless it is a `CommitStateUnknown`."""


class CommitConflict(CommitError):
    """A commit that replaces files which another commit has replaced first."""


class CommitStateUnknown(CommitError):
    """A commit without a definite response: it may be visible. The message states what to do."""


class UnitAlreadyPublished(CommitError):
    """A unit that another worker published first. The writer drops its own work."""


class NothingNew(CommitError):
    """A commit of documents that newer commits contain already. Its files are deleted."""


class TransactionAborted(CommitError):
    """A transaction that garbage collection aborted as stale. Its files may be deleted."""


class QueryError(IxtError):
    """A SQL statement that was refused or failed.

    Attributes:
        reason: the message without the position in the statement.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{reason} {place}".rstrip())
        self.reason = reason


class QueryCancelled(QueryError):
    """A query that was interrupted."""


class Terminated(SystemExit):
    """The end of this process by SIGTERM, unlike a `sys.exit()` in a user's code."""


class CriticError(IxtError):
    """A critic that cannot be loaded, or whose output violates the critic protocol."""


class MixError(IxtError):
    """A mix that cannot be planned from this snapshot."""


class TrainingError(IxtError):
    """A train run cannot go further: its loss is not finite."""


class FingerprintError(IxtError):
    """A resume with another snapshot, plan or tokenizer than the run started with."""


class PluginError(IxtError):
    """A plugin cannot be loaded, or two plugins use one name; see `ixt plugins`."""


class MissingExtra(IxtError):
    """A package of an optional extra that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Run: pip install 'ixt[{extra}]'")

    @classmethod
    def require(cls, extra: str, *packages: str) -> None:
        """Check that the packages of an extra are installed, without importing them.

        Raises:
            MissingExtra: a package is missing; the message contains the `pip install` command.
        """
        for package in packages:
            if importlib.util.find_spec(package) is None:
                raise cls(package, extra)


def describe_failure(error: Exception) -> str:
    """Return in one line why a file cannot be read; a system's error without the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
