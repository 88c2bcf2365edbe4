"""The classical data set: rows, splits, accounts; built without TensorFlow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from tfds_builders.notagen_classical.works import Work, split_works, work_key

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt
from notagen_jax.score import KEYS, read_piece
from tfds_builders import build
from tfds_builders.notagen_classical.folder_works import folder_works
from tfds_builders.notagen_classical.music21_works import music21_works

DATA = Path(__file__).parent / "data"
TABLE = """path,composer,period,born,died,instrumentation,title
quartet.mxl,"Mozart, Wolfgang Amadeus",,,,Chamber,"String Quartet No.18, K.464"
songs/song.mxl,"Duchambge, Pauline",,1776,1858,Art Song,Ronde des pauvres
songs/copy.mxl,"Duchambge, Pauline",Romantic,,,Art Song,Ronde des pauvres
broken.mxl,"Wolf, Hugo",,,,Art Song,
missing.mxl,"Wolf, Hugo",,,,Art Song,
quartet.mxl,"Mozart, Wolfgang Amadeus",,,,Chamber,twice
accent.mxl,"Dvořák, Antonín",Romantic,,,Chamber,
late.mxl,"Adams, John",,1947,,Chamber,
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "songs").mkdir()
    shutil.copy(DATA / "mozart_k464_opening.mxl", folder / "quartet.mxl")
    shutil.copy(DATA / "duchambge_ronde.mxl", folder / "songs" / "song.mxl")
    shutil.copy(DATA / "duchambge_ronde.mxl", folder / "songs" / "copy.mxl")
    for name in ("broken", "accent", "late"):
        (folder / f"{name}.mxl").write_bytes(b"junk")
    (folder / "metadata.csv").write_text(TABLE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory) -> Path:
    data_dir = tmp_path_factory.mktemp("data")
    assert build.run(build.Build(data_dir=data_dir, config="mine", source=folder)) == 0
    return data_dir / "notagen_classical" / "mine" / "1.0.0"


def rows(directory: Path) -> list[dict]:
    source = tfds.builder_from_directory(directory).as_data_source()
    return [row for split in source.values() for row in split]


def test_fifteen_rows_a_piece_in_key_order(built):
    assert "tensorflow" not in sys.modules
    table = rows(built)
    assert len(table) == 2 * 15
    for index, row in enumerate(table):
        assert row["key"] == index % 15
        assert row["name"] == table[index - index % 15]["name"]
    (song,) = {row["name"] for row in table if row["composer"] == b"Duchambge, Pauline"}
    piece = read_piece(DATA / "duchambge_ronde.mxl")
    texts = [row["text"].decode() for row in table if row["name"] == song]
    assert texts == [piece.reduced(key) for key in KEYS]
    first = next(row for row in table if row["name"] == song)
    assert (first["period"], first["instrumentation"]) == (b"Romantic", b"Art Song")
    assert first["original_key"] == KEYS.index("A")


def test_account_adds_up(built):
    report = json.loads((built / "build_report.json").read_text())
    assert report["found"] == 8 == report["kept"] + report["dropped"]
    assert sum(report["pieces_by_split"].values()) == report["kept"] == 2
    assert report["dropped_by_reason"] == {
        "same music as another score": ["songs/song.mxl"],
        "not a readable .mxl archive; export the score again": ["broken.mxl"],
        "the file is missing": ["missing.mxl"],
        "listed twice in metadata.csv": ["quartet.mxl"],
        "a label is empty, or is not plain ASCII": ["accent.mxl"],
        "no period given, and none follows from the composer's years": ["late.mxl"],
    }


def test_built_data_are_not_overwritten(built, folder):
    options = build.Build(data_dir=built.parents[2], config="mine", source=folder)
    with pytest.raises(NotaGenError, match="already built"):
        build.run(options)


def test_chorales_of_the_music21_corpus(tmp_path, monkeypatch, capsys):
    names = ["bach/bwv66.6.mxl", "bach/bwv112.5.mxl", "bach/bwv112.5-sc.mxl"]
    listing = music21_works()
    listing.works = [work for work in listing.works if work.name in names]
    module = "tfds_builders.notagen_classical.notagen_classical_dataset_builder"
    monkeypatch.setattr(f"{module}.music21_works", lambda: listing)
    assert build.run(build.Build(data_dir=tmp_path)) == 0
    table = rows(tmp_path / "notagen_classical" / "music21" / "1.0.0")
    assert {row["name"].decode() for row in table} <= set(names)
    assert {(row["period"], row["composer"], row["instrumentation"]) for row in table} == {
        (b"Baroque", b"Bach, Johann Sebastian", b"Choral")
    }
    source = tfds.builder_from_directory(
        tmp_path / "notagen_classical" / "music21" / "1.0.0"
    ).as_data_source()
    sides = [
        {row["name"].decode().split("-")[0].removesuffix(".mxl") for row in split}
        for split in source.values()
    ]
    assert sorted(map(sorted, sides)) == [["bach/bwv112.5"], ["bach/bwv66.6"]]
    assert "no composer of the three periods" in capsys.readouterr().out


def test_music21_labels():
    listing = music21_works()
    prompts = {work.name: work.prompt for work in listing.works}
    assert len(prompts) > 500
    assert prompts["bach/bwv846.mxl"] == Prompt("Baroque", "Bach, Johann Sebastian", "Keyboard")
    assert prompts["mozart/k458/movement1.mxl"].instrumentation == "Chamber"
    assert prompts["schubert/Lindenbaum.xml"] == Prompt("Romantic", "Schubert, Franz", "Art Song")
    assert not any("palestrina" in name or "demos" in name for name in prompts)
    keys = {work.name: work.work for work in listing.works}
    assert keys["bach/bwv112.5.mxl"] == keys["bach/bwv112.5-sc.mxl"] != keys["bach/bwv113.8.mxl"]
    assert keys["schumann_robert/dichterliebe_no2.xml"] == keys["schumann_robert/opus48no2.mxl"]
    assert len({keys[f"haydn/opus74no1/movement{n}.mxl"] for n in (1, 2, 3, 4)}) == 1


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("opus18no1", "String Quartet No.1, Op.18 No.1", True),
        ("k458", "String Quartet No.17 in B-flat major, K.458 (Op. 10, No. 4)", True),
        ("bwv112.5-sc", "BWV 112.5", True),
        ("Der Lindenbaum", "der  Lindenbaum!", True),
        ("opus18no1", "opus18no3", False),
        ("Abendlied", "Morgenlied", False),
    ],
)
def test_work_key(first, second, same):
    assert (work_key("X, Y", first) == work_key("X, Y", second)) is same


def works(count: int) -> list[Work]:
    prompt = Prompt("Romantic", "X, Y", "Art Song")
    titles = [f"song {number}" for number in range(count)]
    return [Work(title, Path(title), prompt, work_key("X, Y", title)) for title in titles]


def test_split_stays_as_the_corpus_grows():
    few, many = split_works(works(2000)), split_works(works(4000))
    assert 0.04 < len(many["validation"]) / 4000 < 0.06
    assert few["validation"] == [work for work in many["validation"] if work in works(2000)]
    encodings = [*works(2), Work("other", Path("b"), works(1)[0].prompt, works(1)[0].work)]
    assert [len(side) for side in split_works(encodings).values()] in ([2, 1], [1, 2])
    assert {name: len(side) for name, side in split_works(works(1)).items()} == {"train": 1, "validation": 0}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "metadata.csv: not found"),
        ("path,composer\na,b\n", "has no column instrumentation"),
        ("path,composer,instrumentation\n", "lists no score"),
    ],
)
def test_folder_mistakes(tmp_path, table, message):
    if table is not None:
        (tmp_path / "metadata.csv").write_text(table)
    with pytest.raises(NotaGenError, match=message):
        folder_works(tmp_path)


def test_command_line_says_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "tfds_builders.build", "--config", "folder", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: --config folder needs --source, a folder with scores and a metadata.csv"
    )
