"""A folder of scores with a metadata.csv in which faults are planted, each with the reason it must get."""

import os
import shutil
import zipfile
from pathlib import Path

DATA = Path(__file__).parent / "data"
ENTITIES = (
    '<!DOCTYPE score-partwise [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    "<score-partwise><work><work-title>&b;</work-title></work></score-partwise>"
)
SONG = "brahms_ich_schleich.mxl"


def tune(number: int, bars: int = 8, header: str = "K:D", pitches: str = "DEFGABde", label: int = 0) -> str:
    """One ABC tune; tunes of different numbers are different music. `label`: its `X:`, if another."""
    music = " ".join(
        f"{pitches[(number + bar) % 8]}2 {pitches[(number * bar) % 8]}2 "
        f"{pitches[(number // 8 + 3 * bar) % 8]}4 |"
        for bar in range(bars)
    )
    return f"X:{label or number}\nT:tune {number}\nM:4/4\nL:1/8\n{header}\n{music}\n"


def many_staves(staves: int) -> str:
    """An ABC score of one-voice staves."""
    voices = "".join(f"V:{voice} treble\n" for voice in range(1, staves + 1))
    score = "%%score " + " ".join(map(str, range(1, staves + 1)))
    bodies = "".join(f"V:{voice}\n" + "c8 | " * 8 + "|]\n" for voice in range(1, staves + 1))
    return f"X:1\n{score}\nL:1/8\nM:4/4\nK:C\n{voices}{bodies}"


UNEQUAL = (
    "X:1\n%%score 1 2\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:2 bass\n"
    "V:1\nc8 | c8 | c8 |]\nV:2\nC8 | C8 |]\n"
)  # fmt: skip

FILES: dict[str, str | bytes] = {
    "empty.xml": b"",
    "cut.musicxml": b"<?xml version='1.0'?><score-partwise><part-list><score-part id='P1'>",
    "junk.mxl": b"junk",
    "bomb.xml": ENTITIES,
    "page.xml": "<html/>",
    "klingon.xml": '<?xml version="1.0" encoding="klingon"?><score-partwise/>',
    "unequal.abc": UNEQUAL,
    "silent.abc": "X:1\nL:1/8\nM:4/4\nK:C\nz8 | z8 | z8 |]\n",
    "orchestra.abc": many_staves(17),
    "nameless.abc": many_staves(3),
    "notes.krn": "no kern at all\n",
    "rows.csv.abc": "a,b\n1,2\n",
}
"""Faulty scores that are listed with good labels."""

ROWS: dict[str, tuple[str, str, str, str, str]] = {
    "missing.mxl": ("Wolf, Hugo", "", "", "Art Song", ""),
    "../outside.mxl": ("Wolf, Hugo", "", "", "Art Song", ""),
    "readme.txt": ("Wolf, Hugo", "", "", "Art Song", ""),
    "accent.mxl": ("", "Romantic", "", "Art Song", ""),
    "firstlast.mxl": ("Hugo Wolf", "Romantic", "", "Art Song", ""),
    "late.mxl": ("Adams, John", "", "1947", "Chamber", ""),
    "age.mxl": ("Adams, John", "", "about 1947", "Chamber", ""),
    "gothic.mxl": ("Wolf, Hugo", "Gothic", "", "Art Song", ""),
    "jazz.mxl": ("Wolf, Hugo", "Romantic", "", "Jazz", ""),
}
"""Rows with a fault of their own: composer, period, born, instrumentation, title."""

REASONS = {
    "empty.xml": "the file is empty",
    "cut.musicxml": "not well-formed XML",
    "junk.mxl": "not a readable archive; export the score again",
    "bomb.xml": "the XML declares entities; remove its <!ENTITY> lines",
    "page.xml": "not a MusicXML score",
    "klingon.xml": "not well-formed XML",
    "unequal.abc": "the voices have unequal numbers of bars",
    "silent.abc": "the score has no notes",
    "orchestra.abc": "more than 16 staves",
    "nameless.abc": "no instrumentation is given, and none follows from the parts",
    "notes.krn": "not a Humdrum score",
    "rows.csv.abc": "abc2xml cannot read it",
    "no_score.mxl": "the archive holds no MusicXML document",
    "gone.mxl": "the file is missing",
    "loop.mxl": "the file is missing",
    "missing.mxl": "the file is missing",
    "../outside.mxl": "the path leads out of the folder",
    "readme.txt": "not a score file",
    "accent.mxl": "no composer is given",
    "firstlast.mxl": 'the composer is not written as "Last, First"',
    "late.mxl": "no period is given, and none follows from the composer's years",
    "age.mxl": "a year is not a number",
    "gothic.mxl": "the period is none of Baroque, Classical, Romantic",
    "jazz.mxl": "the instrumentation is none of Keyboard, Chamber, Orchestral, Art Song, Choral, "
    "Vocal-Orchestral",
    "unlisted.mxl": "not listed in metadata.csv",
    "songs/schleich.mxl": "listed twice in metadata.csv",
    "songs/schleich_again.mxl": "exact copy of another score",
    "transposed.abc": "same music as another score",
    "book.abc:3": "abc2xml cannot read it",
}
"""The reason of every planted fault, by the name that the report must give it."""

KEPT = {
    "bach.mxl": ("Baroque", "Bach, Johann Sebastian", "Choral"),
    "book.abc:1": ("Romantic", "Dvorak, Antonin", "Chamber"),
    "book.abc:2": ("Romantic", "Dvorak, Antonin", "Chamber"),
    "mozart.mxl": ("Classical", "Mozart, Wolfgang Amadeus", "Chamber"),
    "songs/ronde.mxl": ("Romantic", "Duchambge, Pauline", "Art Song"),
    "songs/schleich.mxl": ("Romantic", "Brahms, Johannes", "Art Song"),
    "songs/sehnsucht.mxl": ("Romantic", "Hensel, Fanny", "Art Song"),
    "air.abc": ("Romantic", "Dvorak, Antonin", "Chamber"),
}
"""The pieces that must be kept, with their labels."""


def plant(folder: Path) -> None:
    """Write the corpus into a new folder."""
    (folder / "songs").mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with zipfile.ZipFile(folder / "no_score.mxl", "w") as archive:
        archive.writestr("cover.png", b"png")
    os.symlink(folder / "nowhere.mxl", folder / "gone.mxl")
    os.symlink(folder / "loop.mxl", folder / "loop.mxl")
    (folder / "readme.txt").write_text("not a score")
    shutil.copy(DATA / "bach_bwv113_8.mxl", folder / "bach.mxl")
    shutil.copy(DATA / "mozart_k464_opening.mxl", folder / "mozart.mxl")
    shutil.copy(DATA / "duchambge_ronde.mxl", folder / "songs" / "ronde.mxl")
    shutil.copy(DATA / "hensel_sehnsucht.mxl", folder / "songs" / "sehnsucht.mxl")
    shutil.copy(DATA / "brahms_ich_schell.mxl", folder / "unlisted.mxl")
    for name in ("schleich", "schleich_again"):
        shutil.copy(DATA / SONG, folder / "songs" / f"{name}.mxl")
    for name in ("accent", "firstlast", "late", "age", "gothic", "jazz"):
        shutil.copy(DATA / "brahms_ich_schell.mxl", folder / f"{name}.mxl")
    (folder / "air.abc").write_text(tune(1))
    # The same tune a tone higher, under another name, with a tempo and a word over the staff.
    higher = tune(1, header="T:Other\nQ:1/4=80\nK:E", pitches="EFGABcef")
    (folder / "transposed.abc").write_text(higher.replace("G2", '"^dolce"G2', 1))
    book = [tune(11, label=1), tune(12, label=2), tune(13, label=3).replace("|", "[CEG", 1)]
    (folder / "book.abc").write_text("\n".join(book))
    (folder / "metadata.csv").write_text(_table(), encoding="utf-8")


def _table() -> str:
    """The table: good rows, one row twice, rows with faults, and the faulty scores with good labels."""
    rows = [
        ("bach.mxl", "Bach, Johann Sebastian", "", "", "", ""),
        ("mozart.mxl", "Mozart, Wolfgang Amadeus", "", "", "", "String Quartet No.18, K.464"),
        ("songs/ronde.mxl", "Duchambge, Pauline", "", "1776", "Art Song", "Ronde des pauvres"),
        ("songs/sehnsucht.mxl", "Hensel, Fanny (Mendelssohn)", "", "", "", ""),
        ("songs/schleich.mxl", "Brahms, Johannes", "", "", "Art Song", "Ich schleich umher"),
        ("songs/schleich.mxl", "Brahms, Johannes", "", "", "Art Song", "again"),
        ("songs/schleich_again.mxl", "Brahms, Johannes", "", "", "Art Song", "Ich schleich umher"),
        ("air.abc", "Dvořák, Antonín", "", "", "Chamber", ""),
        ("transposed.abc", "Dvořák, Antonín", "", "", "Chamber", ""),
        ("book.abc", "Dvořák, Antonín", "", "", "Chamber", ""),
        ("gone.mxl", "Wolf, Hugo", "", "", "Art Song", ""),
        ("loop.mxl", "Wolf, Hugo", "", "", "Art Song", ""),
        ("no_score.mxl", "Wolf, Hugo", "", "", "Art Song", ""),
    ]
    rows += [(name, "Wolf, Hugo", "", "", "" if name == "nameless.abc" else "Chamber", "") for name in FILES]
    rows += [(name, *row) for name, row in ROWS.items()]
    lines = ["path,composer,period,born,instrumentation,title"]
    lines += [",".join(f'"{cell}"' for cell in row) for row in rows]
    return "\n".join(lines) + "\n"
