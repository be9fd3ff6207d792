"""Inputs of an ingest: paths, patterns and standard input, opened by their readers."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ixt_data.errors import ConfigError, IxtError
from ixt_data.ingestion.fields import TEXT, Fields
from ixt_data.ingestion.folders import FolderInput, dataset_files, has_only_pages, walk
from ixt_data.ingestion.formats import TEXT_FORMAT, Input, find_reader, readers
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.source_files import (
    AnyFile,
    SourceFile,
    expand,
    printable,
    standard_input,
)
from ixt_data.storage import MAX_TEXT, RemoteFile, find_remote, is_address

# A folder such as `year=2024/` of a table that Hive or Spark has partitioned.
PARTITION = re.compile(r"(?:^|/)([^/=]+)=[^/]*(?=/)")


def open_inputs(
    paths: Sequence[str | Path],
    *,
    format: str | None = None,
    text_field: str = TEXT,
    id_field: str | None = None,
    source_field: str | None = None,
    records: str | None = None,
    delimiter: str | None = None,
    max_bytes: int = MAX_TEXT,
    remarks: Remarks | None = None,
) -> list[Input]:
    """Open inputs, and check everything that can be checked before reading them.

    Args:
        paths: files, folders, patterns such as `data/*.jsonl`, and `-` for standard input. A
            folder of a dataset contains records; another folder contains one document per file. An
            address is a file, or stands for all files below it.
        format: name of the format of all inputs; None: the first bytes of each file, then its name.
        text_field: field of the text in a record.
        id_field: field of the user's own id, which every record must have; None: the field `id`, if
            a record has it.
        source_field: field of the source, which every record must have; None: the field `source`,
            if a record has it.
        records: keys, joined by dots, of the array of records in a JSON object.
        delimiter: the character between columns of CSV; None: the first line decides.
        max_bytes: most bytes of a record as stored, and of a text; a longer one is rejected.
        remarks: collects what the summary of an ingest says about the records.

    Returns:
        One input per file, or per folder of texts.

    Raises:
        IxtError: a path does not exist or cannot be read.
        ConfigError: a format is not known or does not fit, or a table lacks a named column.
    """
    if format is not None and format not in readers():
        raise ConfigError(f"format {format!r}: use one of {', '.join(sorted(readers()))}")
    if not 0 < max_bytes <= MAX_TEXT:
        raise ConfigError(
            f"document size {max_bytes / (1 << 20):g} MiB: use more than 0 and at most "
            f"{MAX_TEXT >> 20}"
        )
    fields = Fields(
        *(text_field, id_field, source_field, records, delimiter, max_bytes),
        remarks=remarks or Remarks(),
    )
    found = [file for path in paths for file in _find(path)]
    names = _distinct_names(
        [file for file in found if not isinstance(file, Path) or file.is_file()]
    )
    return [item for file in found for item in _open(file, names, fields, format)]


def _find(path: str | Path) -> Iterable[AnyFile]:
    if is_address(path):
        return find_remote(str(path))
    return [Path(path)] if str(path) == "-" else expand(Path(path))


def _distinct_names(files: Sequence[AnyFile]) -> dict[AnyFile, str]:
    """Return a name for each file: its own, with as many folders as make it the only one."""
    parts = {f: f.absolute().parts if isinstance(f, Path) else f.parts for f in files}
    names: dict[AnyFile, str] = {}
    depth = 1
    while pending := [file for file in parts if file not in names]:
        ends = Counter(parts[file][-depth:] for file in parts)
        for file in pending:
            if ends[parts[file][-depth:]] == 1 or depth >= len(parts[file]):
                names[file] = printable(Path(*parts[file][-depth:]))
        depth += 1
    return names


def _open(
    found: AnyFile, names: Mapping[AnyFile, str], fields: Fields, format: str | None
) -> Iterator[Input]:
    for name in dict.fromkeys(PARTITION.findall(os.fspath(found))):
        fields.remarks.add(f"the folders {name}=... of the path are not a column")
    if isinstance(found, RemoteFile):
        source = SourceFile(found)
        source.name = names[found]
        yield _open_file(source, fields, format)
    elif str(found) == "-":
        yield _open_file(standard_input(), fields, format)
    else:
        if not found.exists():
            raise IxtError(f"input {printable(found)} is a link to a path that does not exist")
        if not os.access(found, os.R_OK | os.X_OK if found.is_dir() else os.R_OK):
            raise IxtError(f"input {printable(found)} cannot be read: permission denied")
        if found.is_dir():
            yield from _open_folder(found, fields, format)
        elif found.is_file():
            source = SourceFile(found)
            source.name = names[found]
            yield _open_file(source, fields, format)
        else:
            raise IxtError(f"input {printable(found)} is neither a file nor a folder")


def _open_file(source: SourceFile, fields: Fields, format: str | None) -> Input:
    return find_reader(source, format).open(source, fields)


def _open_folder(folder: Path, fields: Fields, format: str | None) -> Iterator[Input]:
    if next(iter(walk(folder)), None) is None:
        raise IxtError(f"input {printable(folder)} is a folder without a file")
    reader = readers()[format or TEXT_FORMAT]
    files = dataset_files(folder, format) if reader.records or format is None else None
    if files is None:
        if fields != Fields():
            raise ConfigError(
                f"input {printable(folder)} is a folder of texts; options of fields are for "
                "files of records"
            )
        if format is None and has_only_pages(folder):
            format = "html"
        yield FolderInput(folder, format, fields.max_bytes)
    for file in files or ():
        source = SourceFile(file.path)
        # Files of several splits may have one name.
        source.name = printable(file.path.relative_to(folder).as_posix())
        for name in dict.fromkeys(PARTITION.findall(source.name)):
            fields.remarks.add(f"the folders {name}=... of {printable(folder)} are not a column")
        yield _open_file(source, replace(fields, split=file.split), format)
