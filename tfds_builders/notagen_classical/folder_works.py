"""The works of a folder with scores and a metadata.csv."""

import csv
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt, period_of
from notagen_jax.score.source import SCORE_SUFFIXES
from tfds_builders.notagen_classical.works import Listing, Work, work_key

COLUMNS = ("path", "composer", "instrumentation")


def folder_works(folder: str | Path) -> Listing:
    """List the scores that `folder/metadata.csv` names.

    Columns: path (inside the folder), composer ("Last, First"), instrumentation; optional: period,
    born, died (years: the period follows from them when it is empty), title (two encodings of one
    work share it). Raises `NotaGenError` when the folder, the table or one of its columns is missing.
    """
    folder = Path(folder)
    table = folder / "metadata.csv"
    rows = _rows(table)
    listing = Listing()
    names: set[str] = set()
    for number, row in enumerate(rows, start=2):
        file = (row["path"] or "").strip() or f"line {number}"
        try:
            work = _work(folder, file, row)
        except NotaGenError as error:
            listing.leave_out(str(error), file)
            continue
        if work.name in names:
            listing.leave_out("listed twice in metadata.csv", file)
            continue
        names.add(work.name)
        listing.works.append(work)
    return listing


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        raise NotaGenError(f"{table}: not found; list the scores there (columns {', '.join(COLUMNS)})")
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise NotaGenError(f"{table}: not a UTF-8 CSV table ({error})") from error
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
    if missing:
        raise NotaGenError(f"{table}: has no column {', '.join(missing)}")
    if not rows:
        raise NotaGenError(f"{table}: lists no score")
    return rows


def _work(folder: Path, file: str, row: dict[str, str]) -> Work:
    path = folder / file
    if not path.is_file():
        raise NotaGenError("the file is missing")
    if path.suffix.lower() not in SCORE_SUFFIXES:
        raise NotaGenError("not a score file (.xml, .musicxml, .mxl or .abc)")
    composer = (row["composer"] or "").strip()
    instrumentation = (row["instrumentation"] or "").strip()
    period = (row.get("period") or "").strip()
    if not period:
        period = period_of(composer, _year(row.get("born")), _year(row.get("died"))) or ""
    if not period:
        raise NotaGenError("no period given, and none follows from the composer's years")
    try:
        prompt = Prompt(period, composer, instrumentation)
    except NotaGenError as error:
        raise NotaGenError("a label is empty, or is not plain ASCII") from error
    return Work(
        name=file,
        path=path,
        prompt=prompt,
        work=work_key(composer, (row.get("title") or "").strip() or file),
    )


def _year(text: str | None) -> int | None:
    text = (text or "").strip()
    if not text:
        return None
    if not text.isdigit():
        raise NotaGenError(f"the year {text!r} is not a number")
    return int(text)
