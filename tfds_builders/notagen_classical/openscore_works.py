"""The OpenScore Lieder and String Quartets (CC0), as their repositories or an index lay them out.

A repository keeps `scores/COMPOSER/SET/SONG/lcID.mxl` (songs) or `scores/COMPOSER/WORK/sqID.mxl`
(quartets), with the composers' years in `data/composers.tsv` and titles in `data/scores.tsv`. An index
is a folder with `index.tsv` (path, composer, born, died, instrumentation, title) beside the scores. A
score has the same name, `lieder/lcID.mxl` or `quartets/sqID.mxl`, in either.
"""

import re
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import period_of
from notagen_jax.score import Score
from notagen_jax.score.source import MUSICXML_SUFFIXES
from tfds_builders.composers import composer_label
from tfds_builders.folders import read_tree
from tfds_builders.notagen_classical.folder_works import read_rows, year
from tfds_builders.works import Listing, Work, work_key

ARCHIVES = {
    "lieder": "https://github.com/OpenScore/Lieder/archive/bca122458de6da362abe62dd6aec62e25d7759b1.zip",
    "quartets": "https://github.com/OpenScore/StringQuartets/archive/2c723a5b7b4ea5420826116dfa912956c6a022c2.zip",
}
"""Archives of the two repositories at the commits that this version builds from."""

INDEX = "index.tsv"
_COMPOSERS = Path("data", "composers.tsv")
_SCORES = Path("data", "scores.tsv")


@dataclass(frozen=True)
class _Collection:
    """What a repository's score files are, told by the letters before their number."""

    name: str
    instrumentations: tuple[str, ...]


_COLLECTIONS = {
    "lc": _Collection("lieder", ("Art Song", "Choral")),  # some songs are for choir
    "sq": _Collection("quartets", ("Chamber",)),
}


def openscore_works(source: str | Path, dl_manager: Any) -> Listing:
    """List the scores of a manual folder, or of the archives that the TFDS download manager fetches.

    `source` is a folder with an `index.tsv`, a repository, or a folder of repositories; '' downloads.
    Raises `NotaGenError` when the folder holds neither.
    """
    if not source:
        folders, where = _fetched(dl_manager), "the downloaded archives hold"
    else:
        folders, where = [Path(source)], f"{source} holds"
        if (folders[0] / INDEX).is_file():
            return _indexed(folders[0])
    repositories = [
        place
        for folder in folders
        for place in (folder, *sorted(folder.iterdir() if folder.is_dir() else []))
        if (place / _COMPOSERS).is_file()
    ]
    if not repositories:
        raise NotaGenError(f"{where} neither {INDEX} nor a repository with scores/ and {_COMPOSERS}")
    listing = Listing()
    for repository in repositories:
        _add_repository(repository, listing)
    return listing


def _fetched(dl_manager: Any) -> list[Path]:
    """The folders of the archives' scores and tables. Raises `NotaGenError` when they cannot be had.

    TFDS fetches and keeps them; its own unpacking would need TensorFlow.
    """
    try:
        archives = dl_manager.download(ARCHIVES)
    except (OSError, tfds.download.DownloadError) as error:
        raise NotaGenError(
            f"cannot fetch {' and '.join(ARCHIVES.values())} ({error}); clone the repositories and give "
            "the folder that holds them as --source"
        ) from error
    return [_unpacked(Path(archive)) for archive in archives.values()]


def _unpacked(archive: Path) -> Path:
    """The folder of an archive's scores and tables, beside the archive; whole once it exists."""
    folder = archive.parent / f"{archive.name}.unpacked"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
        target = Path(temporary, "content")
        try:
            with zipfile.ZipFile(archive) as content:
                names = [name for name in content.namelist() if name.endswith((".mxl", ".tsv"))]
                content.extractall(target, names)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise NotaGenError(
                f"{archive}: not a whole archive ({error}); delete it and start again"
            ) from error
        target.rename(folder)
    return folder


def _add_repository(repository: Path, listing: Listing) -> None:
    years = {
        row["path"]: {"born": row["born"], "died": row["died"]}
        for row in read_rows(repository / _COMPOSERS, ("path", "born", "died"), "\t")
    }
    table = repository / _SCORES
    songs = read_rows(table, ("path", "name"), "\t") if table.is_file() else []
    titles = {row["path"]: row["name"] for row in songs}
    tree = read_tree(repository / "scores")
    listing.other_files += tree.other_files
    for file, path in tree.scores.items():
        collection = _COLLECTIONS.get(path.name[:2].lower())
        if collection is None or path.suffix.lower() not in MUSICXML_SUFFIXES:
            listing.leave_out("not a score of the collection", file)
            continue
        place = Path(file).parent
        folder, *sets = place.parts
        # Songs stand in sets, numbered; the song is the work. A quartet's folder is the work.
        named = re.sub(r"^\d+[a-z]?_", "", sets[-1]).replace("_", " ") if sets else path.stem
        title = titles.get(place.as_posix(), named)
        composer = {"composer": folder, **years.get(folder, {})}
        name = f"{collection.name}/{path.name}"
        _add(listing, name, path, composer, title, collection.instrumentations)


def _indexed(folder: Path) -> Listing:
    listing = Listing()
    named: set[str] = set()
    for row in read_rows(folder / INDEX, ("path", "composer", "born", "died", "instrumentation"), "\t"):
        file = row["path"]
        if file in named:
            listing.leave_out(f"listed twice in {INDEX}", file)
        elif not (folder / file).is_file():
            listing.leave_out("the file is missing", file)
        else:
            _add(listing, file, folder / file, row, row.get("title") or file, (row["instrumentation"],))
        named.add(file)
    tree = read_tree(folder)
    listing.other_files = tree.other_files
    for file in tree.scores:
        if file not in named:
            listing.leave_out(f"not listed in {INDEX}", file)
    return listing


def _add(
    listing: Listing,
    name: str,
    path: Path,
    composer: dict[str, str],
    title: str,
    instrumentations: tuple[str, ...],
) -> None:
    """Add a work of a composer (composer, born, died), or leave it out for what is wrong with that."""
    try:
        label = composer_label(composer["composer"])
        period = period_of(label, year(composer.get("born")), year(composer.get("died")))
        if period is None:
            raise NotaGenError("no period follows from the composer's years")
    except NotaGenError as error:
        listing.leave_out(str(error), name)
        return
    listing.works.append(Work(name, Score(path), work_key(label, title), label, period, instrumentations))
