"""The classical data set: rows, labels, splits, account and card; built without TensorFlow."""

import dataclasses
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.patches import encode_piece
from notagen_jax.score import KEYS, read_piece
from tests import planted_corpus
from tests.built_data import dropped, names, report, rows
from tests.planted_corpus import DATA, KEPT, REASONS
from tfds_builders import build
from tfds_builders.notagen_classical import openscore_works as openscore
from tfds_builders.notagen_classical.folder_works import folder_works
from tfds_builders.notagen_classical.music21_works import music21_works
from tfds_builders.records import INDEX, prompt_patches
from tfds_builders.works import held_out_keys, work_key
from train.corpus import open_corpus

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scores") / "planted"
    planted_corpus.plant(folder)
    data_dir = tmp_path_factory.mktemp("data")
    assert build.run(build.Build(data_dir=data_dir, config="mine", source=folder, processes=2)) == 0
    return data_dir / "notagen_classical" / "mine" / "2.0.0"


def test_every_planted_fault_is_named(built):
    assert len(REASONS) > 20
    account = report(built)
    # One row is a second one of a score that is kept: its name stands on both sides.
    assert dropped(built) == REASONS
    assert account["dropped"] == len(REASONS)
    assert account["kept"] == sum(account["pieces_by_split"].values()) == len(KEPT)
    assert account["found"] == account["kept"] + account["dropped"]
    assert account["other_files"] == ["metadata.csv", "readme.txt"]


def test_rows_of_each_piece_by_key(built):
    assert "tensorflow" not in sys.modules
    labels = {}
    for split, table in rows(built).items():
        index = np.load(built / f"{split}.index.npy")
        assert index.dtype == INDEX
        assert len(table) == 15 * len(index)
        for number, row in enumerate(table):
            piece, key = divmod(number, 15)
            assert row["key"] == key
            assert row["name"] == table[15 * piece]["name"]
            assert row["original_key"] == index["original_key"][piece]
            assert row["patches"] == index["patches"][piece, key]
            assert row["patches"] == encode_piece(row["text"].decode()).length
            prompt = tuple(row[label].decode() for label in ("period", "composer", "instrumentation"))
            assert prompt_patches(*prompt) == index["prompt"][piece]
            labels[row["name"].decode()] = prompt
        for piece, row in enumerate(table[::15]):
            if row["name"] == b"songs/ronde.mxl":
                score = read_piece(DATA / "duchambge_ronde.mxl")
                texts = [row["text"].decode() for row in table[15 * piece : 15 * piece + 15]]
                assert texts == list(score.reduced_all().values())
                assert KEYS[row["original_key"]] == score.original_key == "A"
    assert labels == KEPT


def test_the_loader_reads_what_was_built(built):
    corpus = open_corpus(str(built), "train")
    assert isinstance(corpus.index, np.memmap)
    assert corpus.name == "notagen_classical/mine"
    labels = {corpus.label(piece) for piece in range(len(corpus))}
    assert labels <= set(KEPT.values())
    assert corpus.labels() == corpus.prompts == labels
    assert dataclasses.replace(corpus, prompts=None).labels() == labels
    piece = next(piece for piece in range(len(corpus)) if corpus.piece_name(piece) == "songs/ronde.mxl")
    assert corpus.text(piece, 1, True).startswith("%Romantic\n%Duchambge, Pauline\n%Art Song\n%end\n%%score")


def test_the_card_lists_pieces_by_prompt(built):
    card = (built / "README.md").read_text(encoding="utf-8")
    total = {"train": 0, "validation": 0}
    for period, composer, instrumentation in set(KEPT.values()):
        counts = re.search(rf"\| {period} \| {composer} \| {instrumentation} \| (\d+) \| (\d+) \|", card)
        total["train"] += int(counts.group(1))
        total["validation"] += int(counts.group(2))
        pieces = re.search(rf"\*\*{period}, {composer}, {instrumentation}\*\*: (.*)", card).group(1)
        listed = {name.removesuffix(" (held out)") for name in pieces.split(", ")}
        prompt = (period, composer, instrumentation)
        assert listed == {name for name, labels in KEPT.items() if labels == prompt}
    assert total == report(built)["pieces_by_split"]
    metadata = json.loads((built / "metadata.json").read_text(encoding="utf-8"))
    assert [tuple(prompt.values())[:3] for prompt in metadata["prompts"]] == sorted(set(KEPT.values()))
    kept, faults = len(KEPT), len(REASONS)
    assert f"{kept + faults} found = {kept} kept + {faults} dropped" in card


def test_built_data_are_not_overwritten(built):
    options = build.Build(data_dir=built.parents[2], config="mine", source=built)
    with pytest.raises(NotaGenError, match="already built"):
        build.run(options)


def repository(folder: Path, score: Path, place: str) -> None:
    """A repository of one score in OpenScore's layout."""
    path = folder / "scores" / place
    path.parent.mkdir(parents=True)
    shutil.copy(score, path)
    (path.parent / "README.md").write_text("# A score\n")
    (path.parent / "sketch.mscx").write_text("<museScore/>")
    composer = place.split("/")[0]
    years = {"Duchambge,_Pauline": "1776\t1858", "Mozart,_Wolfgang_Amadeus": "1756\t1791"}[composer]
    (folder / "data").mkdir()
    (folder / "data" / "composers.tsv").write_text(f"id\tpath\tborn\tdied\n1\t{composer}\t{years}\n")
    directory = place.rpartition("/")[0]
    title = directory.rpartition("/")[2].replace("_", " ").removeprefix("3 ") + "/a"
    (folder / "data" / "scores.tsv").write_text(f"id\tpath\tname\n1\t{directory}\t{title}\n")


@pytest.fixture
def repositories(tmp_path) -> Path:
    folder = tmp_path / "repositories"
    ronde = "Duchambge,_Pauline/_/3_Ronde_des_pauvres/lc6594151.mxl"
    repository(folder / "Lieder-main", DATA / "duchambge_ronde.mxl", ronde)
    quartet = "Mozart,_Wolfgang_Amadeus/String_Quartet_No.18,_K.464/sq7070781.mxl"
    repository(folder / "StringQuartets-main", DATA / "mozart_k464_opening.mxl", quartet)
    nameless = folder / "Lieder-main" / "scores" / "Arne,_Thomas" / "_" / "Celia" / "lc1.mxl"
    nameless.parent.mkdir(parents=True)
    shutil.copy(DATA / "hensel_sehnsucht.mxl", nameless)
    return folder


def test_openscore_is_fetched_from_its_archives(repositories, tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    for place in repositories.iterdir():
        with zipfile.ZipFile(served / f"{place.name}.zip", "w") as archive:
            for path in sorted(place.rglob("*")):
                archive.write(path, path.relative_to(repositories))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setattr(handler.func, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        archives = {name: f"{address}/{name}-main.zip" for name in ("Lieder", "StringQuartets")}
        monkeypatch.setattr(openscore, "ARCHIVES", archives)
        assert build.run(build.Build(data_dir=tmp_path / "data", config="openscore", processes=1)) == 0
        server.shutdown()
    directory = tmp_path / "data" / "notagen_classical" / "openscore" / "2.0.0"
    found = {row["name"].decode(): row for table in rows(directory).values() for row in table}
    labels = {
        name: [row[label].decode() for label in ("period", "composer", "instrumentation")]
        for name, row in found.items()
    }
    assert labels == {
        "lieder/lc6594151.mxl": ["Romantic", "Duchambge, Pauline", "Art Song"],
        "quartets/sq7070781.mxl": ["Classical", "Mozart, Wolfgang Amadeus", "Chamber"],
    }
    assert dropped(directory) == {"lieder/lc1.mxl": "no period follows from the composer's years"}


class Offline:
    """A download manager without a network."""

    def download(self, archives: dict[str, str]) -> dict[str, str]:
        raise ConnectionError(f"no route to {archives['lieder']}")


class Cut:
    """A download manager that brings half an archive."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "half.zip"
        self.path.write_bytes(b"PK half")

    def download(self, archives: dict[str, str]) -> dict[str, str]:
        return dict.fromkeys(archives, str(self.path))


def test_openscore_that_cannot_be_fetched(tmp_path):
    remedy = "no route to .*; clone the repositories and give the folder that holds them as --source"
    with pytest.raises(NotaGenError, match=remedy):
        openscore.openscore_works("", Offline())
    with pytest.raises(NotaGenError, match=r"half\.zip: not a whole archive"):
        openscore.openscore_works("", Cut(tmp_path))


def test_openscore_from_a_folder(repositories, tmp_path):
    listing = openscore.openscore_works(repositories, None)
    assert {work.name: work.work for work in listing.works} == {
        "lieder/lc6594151.mxl": "duchambge, pauline/ronde des pauvres a",
        "quartets/sq7070781.mxl": "mozart, wolfgang amadeus/k 464",
    }
    assert [work.instrumentations for work in listing.works] == [("Art Song", "Choral"), ("Chamber",)]
    alone = openscore.openscore_works(repositories / "Lieder-main", None)
    assert [work.name for work in alone.works] == ["lieder/lc6594151.mxl"]
    place = "Duchambge,_Pauline/_/3_Ronde_des_pauvres"
    assert alone.other_files == [f"{place}/README.md", f"{place}/sketch.mscx"]

    indexed = tmp_path / "indexed"
    (indexed / "lieder").mkdir(parents=True)
    shutil.copy(DATA / "duchambge_ronde.mxl", indexed / "lieder" / "lc6594151.mxl")
    shutil.copy(DATA / "hensel_sehnsucht.mxl", indexed / "lieder" / "lc2.mxl")
    table = [
        "path\tcomposer\tborn\tdied\tinstrumentation\ttitle",
        "lieder/lc6594151.mxl\tDuchambge, Pauline\t1776\t1858\tArt Song\tRonde des pauvres",
        "lieder/lc6594151.mxl\tDuchambge, Pauline\t1776\t1858\tArt Song\tRonde des pauvres",
        "lieder/lc3.mxl\tHensel, Fanny\t1805\t1847\tArt Song\tSehnsucht",
    ]
    (indexed / "index.tsv").write_text("\n".join(table) + "\n")
    listing = openscore.openscore_works(indexed, None)
    assert [(work.name, work.period, work.instrumentations) for work in listing.works] == [
        ("lieder/lc6594151.mxl", "Romantic", ("Art Song",))
    ]
    assert listing.left_out == {
        "listed twice in index.tsv": ["lieder/lc6594151.mxl"],
        "the file is missing": ["lieder/lc3.mxl"],
        "not listed in index.tsv": ["lieder/lc2.mxl"],
    }
    with pytest.raises(NotaGenError, match=r"neither index\.tsv nor a repository"):
        openscore.openscore_works(indexed / "lieder", None)


def test_chorales_of_the_music21_corpus(tmp_path, monkeypatch, capsys):
    chosen = ["bach/bwv66.6.mxl", "bach/bwv112.5.mxl", "bach/bwv112.5-sc.mxl"]
    listing = music21_works()
    listing.works = [work for work in listing.works if work.name in chosen]
    module = "tfds_builders.notagen_classical.notagen_classical_dataset_builder"
    monkeypatch.setattr(f"{module}.music21_works", lambda: listing)
    assert build.run(build.Build(data_dir=tmp_path, processes=1)) == 0
    directory = tmp_path / "notagen_classical" / "music21" / "2.0.0"
    table = [row for split in rows(directory).values() for row in split]
    assert {(row["period"], row["composer"], row["instrumentation"]) for row in table} == {
        (b"Baroque", b"Bach, Johann Sebastian", b"Choral")
    }
    sides = [{name.split("-")[0].removesuffix(".mxl") for name in side} for side in names(directory).values()]
    assert sorted(map(sorted, sides)) == [["bach/bwv112.5"], ["bach/bwv66.6"]]
    assert "no composer of the three periods" in capsys.readouterr().out


def test_music21_labels():
    listing = music21_works()
    works = {work.name: work for work in listing.works}
    labels = {
        name: (work.period, work.composer, work.instrumentation("Chamber")) for name, work in works.items()
    }
    assert len(labels) > 500
    assert labels["bach/bwv846.mxl"] == ("Baroque", "Bach, Johann Sebastian", "Keyboard")
    assert labels["mozart/k458/movement1.mxl"][2] == "Chamber"
    assert labels["schubert/Lindenbaum.xml"] == ("Romantic", "Schubert, Franz", "Art Song")
    assert labels["chopin/mazurka06-2.krn"] == ("Romantic", "Chopin, Frederic", "Keyboard")
    assert not any("palestrina" in name or "demos" in name for name in labels)
    keys = {name: work.work for name, work in works.items()}
    assert keys["bach/bwv112.5.mxl"] == keys["bach/bwv112.5-sc.mxl"] != keys["bach/bwv113.8.mxl"]
    assert keys["schumann_robert/dichterliebe_no2.xml"] == keys["schumann_robert/opus48no2.mxl"]
    assert len({keys[f"haydn/opus74no1/movement{n}.mxl"] for n in (1, 2, 3, 4)}) == 1
    second = listing.left_out["another encoding of a score that is there"]
    assert "beethoven/opus18no1/movement1.krn" in second


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("opus18no1", "String Quartet No.1, Op.18 No.1", True),
        ("k458", "String Quartet No.17 in B-flat major, K.458 (Op. 10, No. 4)", True),
        ("bwv112.5-sc", "BWV 112.5", True),
        ("Der Lindenbaum", "der  Lindenbaum!", True),
        ("The Shepherd’s Song", "The Shepherds Song", True),
        ("opus18no1", "opus18no3", False),
        ("Abendlied", "Morgenlied", False),
    ],
)
def test_work_key(first, second, same):
    assert (work_key("X, Y", first) == work_key("X, Y", second)) is same


def test_split_stays_as_the_corpus_grows():
    keys = [work_key("X, Y", f"song {number}") for number in range(4000)]
    few, many = held_out_keys(keys[:2000]), held_out_keys(keys)
    assert 0.04 < len(many) / 4000 < 0.06
    assert few == many & set(keys[:2000])
    assert len(held_out_keys(keys[:2])) == 1
    assert held_out_keys(keys[:1]) == set()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "metadata.csv: not found"),
        ("path,title\na,b\n", "has no column composer"),
        ("path,composer\n", "lists no score"),
        (b"path,composer\n\xff\xfe,x\n", "not a UTF-8 table"),
    ],
)
def test_folder_mistakes(tmp_path, table, message):
    if table is not None:
        (tmp_path / "metadata.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(NotaGenError, match=message):
        folder_works(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": "folder"}, "--config folder needs --source, a folder with scores and a metadata.csv"),
        ({"builder": "pretrain", "config": "x"}, "--config x needs --source, a folder with scores$"),
        ({"config": "music21", "source": DATA}, "--source goes with --config folder"),
        ({"builder": "pretrain", "config": "openscore", "source": DATA}, "openscore goes with --builder cl"),
        ({"processes": 0}, "--processes 0: must be at least 1"),
        ({"seconds": 0.0}, "--seconds 0: must be more than 0"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, message):
    with pytest.raises(NotaGenError, match=message):
        build.run(build.Build(data_dir=tmp_path, **options))


def test_command_line_says_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "tfds_builders.build", "--config", "folder", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: --config folder needs --source, a folder with scores and a metadata.csv"
    )
