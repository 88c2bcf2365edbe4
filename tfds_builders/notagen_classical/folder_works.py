"""The works of a folder with scores and a metadata.csv."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import INSTRUMENTATIONS, PERIODS, period_of
from notagen_jax.score import is_score
from tfds_builders.composers import composer_label
from tfds_builders.folders import named_scores, read_tree
from tfds_builders.works import Listing, Work, work_key

TABLE = "metadata.csv"
COLUMNS = ("path", "composer")


def folder_works(folder: str | Path) -> Listing:
    """List the scores that `folder/metadata.csv` names.

    Columns: path (inside the folder), composer ("Last, First"); optional: period, born, died (years:
    the period follows from them, or from the paper's list, when it is empty), instrumentation (follows
    from the parts when it is empty), title (two encodings of one work share it). A file of several
    tunes gives them all the labels of its row. Raises `NotaGenError` when the folder, the table or one
    of its columns is missing.
    """
    folder = Path(folder)
    table = folder / TABLE
    rows = read_rows(table, COLUMNS)
    tree = read_tree(folder)
    listing = Listing(other_files=tree.other_files)
    named: set[str] = set()
    for number, row in enumerate(rows, start=2):
        file = Path((row["path"] or "").strip()).as_posix() if row["path"] else f"line {number}"
        if file in named:
            listing.leave_out(f"listed twice in {TABLE}", file)
            continue
        named.add(file)
        try:
            listing.works += _works(folder, file, row)
        except NotaGenError as error:
            listing.leave_out(str(error), file)
    for file in tree.scores:
        if file not in named:
            listing.leave_out(f"not listed in {TABLE}", file)
    return listing


def read_rows(table: Path, columns: Iterable[str], delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table with a head line; raises `NotaGenError` without the columns or without rows."""
    columns = list(columns)
    if not table.is_file():
        raise NotaGenError(f"{table}: not found; list the scores there (columns {', '.join(columns)})")
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise NotaGenError(f"{table}: not a UTF-8 table ({error})") from error
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise NotaGenError(f"{table}: has no column {', '.join(missing)}")
    if not rows:
        raise NotaGenError(f"{table}: lists no score")
    return rows


def _works(folder: Path, file: str, row: dict[str, str]) -> Iterable[Work]:
    path = folder / file
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) and not path.is_symlink():
        raise NotaGenError("the path leads out of the folder")
    if not path.is_file():
        raise NotaGenError("the file is missing")
    if not is_score(path):
        raise NotaGenError("not a score file")
    composer = composer_label(row["composer"] or "")
    period = (row.get("period") or "").strip()
    if not period:
        period = period_of(composer, year(row.get("born")), year(row.get("died"))) or ""
        if not period:
            raise NotaGenError("no period is given, and none follows from the composer's years")
    if period not in PERIODS:
        raise NotaGenError(f"the period is none of {', '.join(PERIODS)}")
    instrumentation = (row.get("instrumentation") or "").strip()
    if instrumentation and instrumentation not in INSTRUMENTATIONS:
        raise NotaGenError(f"the instrumentation is none of {', '.join(INSTRUMENTATIONS)}")
    title = (row.get("title") or "").strip() or file
    given = (instrumentation,) if instrumentation else ()
    return [
        Work(name, score, work_key(composer, f"{title} {score.tune}"), composer, period, given)
        for name, score in named_scores(file, path)
    ]


def year(text: str | None) -> int | None:
    """A year of a table; None where it is empty. Raises `NotaGenError` when it is no number."""
    text = (text or "").strip()
    if not text:
        return None
    if not text.isdigit():
        raise NotaGenError("a year is not a number")
    return int(text)
