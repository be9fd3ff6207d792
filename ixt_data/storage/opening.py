"""Where a store's bytes live: keys below a root, created once and never changed.

A key is a POSIX path relative to the root. `LocalStorage` keeps them in a folder, `S3Storage`
below a prefix of a bucket; both keep what `Storage` promises, and `probe` tells whether a place
can.
"""

from pathlib import Path

from ixt_data.errors import StoreError
from ixt_data.storage.base import Storage
from ixt_data.storage.local import LocalStorage


def open_storage(root: str | Path) -> Storage:
    """The storage of a root: a folder, or an address such as `s3://bucket/prefix`.

    Raises:
        StoreError: the root is an address of a kind that is not supported.
        MissingExtra: boto3 is not installed.
    """
    scheme, mark, _ = str(root).partition("://")
    if not mark:
        return LocalStorage(root)
    if scheme != "s3":
        raise StoreError(f"{root}: a store is in a folder or at s3://bucket/prefix")
    from ixt_data.storage.s3 import S3Storage

    return S3Storage(str(root))
