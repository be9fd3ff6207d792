"""Opening the storage of a root.

`LocalStorage` stores keys in a folder, `S3Storage` and `CloudStorage` below a prefix of a bucket.
All implement the protocol `Storage`, and `probe` checks it.
"""

from pathlib import Path

from ixt_data.errors import StoreError
from ixt_data.storage.base import Storage
from ixt_data.storage.local import LocalStorage, is_unicode


def open_storage(root: str | Path) -> Storage:
    """Open the storage of a root: a folder, or an address: s3://, gs:// or az://.

    Raises:
        StoreError: the root is empty or not UTF-8, or the address has an unsupported scheme.
        MissingExtra: boto3 or obstore is not installed.
    """
    scheme, separator, _ = str(root).partition("://")
    if not str(root).strip():
        raise StoreError("the root of the store is empty; name a folder or s3://bucket/prefix")
    if not is_unicode(root):
        raise StoreError(f"{root}: the path is not UTF-8, and DuckDB opens only UTF-8 paths")
    if not separator:
        return LocalStorage(Path(root).expanduser())
    if scheme in ("gs", "az"):
        from ixt_data.storage.clouds import CloudStorage

        return CloudStorage(str(root))
    if scheme != "s3":
        raise StoreError(f"{root}: a store must be in a folder, or at s3://, gs:// or az://")
    from ixt_data.storage.s3 import S3Storage

    return S3Storage(str(root))
