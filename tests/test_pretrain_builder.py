"""The pre-training data set, and what both builders share: journal, restart, files, order."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.score import Score, read_piece
from notagen_jax.score.batch import run_isolated
from tests.built_data import dropped, names, report, rows
from tests.planted_corpus import DATA, SONG, tune
from tfds_builders import build, score_builder, shards
from tfds_builders.conversion import convert
from tfds_builders.journal import Entry, Journal, new_segment
from tfds_builders.notagen_pretrain.sources import folder_scores, music21_scores
from tfds_builders.selection import Rules, select
from tfds_builders.works import Listing, Work

ROOT = Path(__file__).parents[1]


def built_from(folder: Path, data_dir: Path, **options: object) -> Path:
    assert build.run(build.Build(data_dir, "pretrain", "mine", folder, processes=1, **options)) == 0
    return data_dir / "notagen_pretrain" / "mine" / "2.0.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scores")
    (folder / "books").mkdir()
    for name in ("bach_bwv113_8", "hensel_sehnsucht"):
        shutil.copy(DATA / f"{name}.mxl", folder / f"{name}.mxl")
    shutil.copy(DATA / SONG, folder / "song.mxl")
    shutil.copy(DATA / SONG, folder / "song_copy.mxl")
    book = [tune(5), tune(6), tune(7, bars=7), tune(8)]
    (folder / "books" / "airs.abc").write_text("\n".join(book))
    other = tune(6, header="C:Anon\nN:noted again\nQ:1/4=60\nK:D") + "w:la la la\n"
    (folder / "books" / "other.abc").write_text(other)
    (folder / "notes.txt").write_text("about the scores")
    os.symlink(folder / "nowhere", folder / "gone.xml")
    (folder / ".hidden.abc").write_text(tune(9))
    return folder


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory) -> Path:
    return built_from(folder, tmp_path_factory.mktemp("data"))


def test_rules_of_the_paper(built):
    account = report(built)
    assert dropped(built) == {
        "books/airs.abc:7": "fewer than 8 bars",
        "gone.xml": "the file cannot be read",
        "books/other.abc": "same music as another score",
        "song_copy.mxl": "exact copy of another score",
    }
    kept = {"bach_bwv113_8.mxl", "hensel_sehnsucht.mxl", "song.mxl"}
    kept |= {f"books/airs.abc:{number}" for number in (5, 6, 8)}
    assert {name for side in names(built).values() for name in side} == kept
    assert account["found"] == 10 == account["kept"] + account["dropped"]
    assert account["other_files"] == ["notes.txt"]
    assert "books/airs.abc:7 (7)" in account["dropped_by_reason"]["fewer than 8 bars"]


def test_titles_lyrics_and_labels_are_gone(built):
    for table in rows(built).values():
        for row in table:
            assert not any(
                line[:2] in ("T:", "C:", "w:", "W:", "X:") for line in row["text"].decode().split("\n")
            )
            assert row["composer"] == row["period"] == row["instrumentation"] == b""
    card = (built / "README.md").read_text()
    assert "10 found = 6 kept + 4 dropped" in card
    assert "**books**: books/airs.abc:5, books/airs.abc:6, books/airs.abc:8" in card.replace(
        " (held out)", ""
    )


def test_sides_and_order_stay_as_the_corpus_grows(folder, built, tmp_path):
    larger = tmp_path / "larger"
    shutil.copytree(folder, larger, symlinks=True)
    more = "\n".join(tune(number) for number in range(16, 64))
    (larger / "books" / "more.abc").write_text(more)
    after = names(built_from(larger, tmp_path / "data"))
    before = names(built)
    # A corpus this small has no key in the validation share: one was put there.
    small = [name for name in after["train"] + after["validation"] if "more.abc" not in name]
    assert set(small) == {name for side in before.values() for name in side}
    assert [name for name in after["train"] if name in before["train"]] == [
        name for name in before["train"] if name in after["train"]
    ]
    assert sum(map(len, after.values())) == 6 + 48
    assert 0 < len(after["validation"]) < 8


def test_the_music21_corpus_is_listed_whole():
    listing = music21_scores()
    assert sum(name.startswith("essenFolksong/") for name in (work.name for work in listing.works)) > 8000
    assert sum(work.name.startswith("palestrina/") for work in listing.works) == 1318
    assert len(listing.works) > 14_000
    second = listing.left_out.pop("another encoding of a score that is there")
    assert len(second) == 8
    assert "bach/bwv277.krn" in second
    assert set(listing.left_out) == {"a demonstration or an exercise", "a lead sheet", "no bar lines"}
    assert sum(map(len, listing.left_out.values())) == 25
    assert len({work.name for work in listing.works}) == len(listing.works)
    keys = {work.name: work.work for work in listing.works}
    assert keys["bach/bwv112.5.mxl"] == keys["bach/bwv112.5-sc.mxl"]
    assert keys["oneills1850/0001-0050.abc:1"] != keys["oneills1850/0001-0050.abc:2"]


def test_a_few_scores_of_each_kind_of_the_music21_corpus(tmp_path, monkeypatch):
    listing = music21_scores()
    folders = ("bach/", "ryansMammoth/", "oneills1850/", "palestrina/")
    listing.works = [next(w for w in listing.works if w.name.startswith(folder)) for folder in folders]
    chosen = {work.name for work in listing.works}
    assert {name.split(":")[0].rpartition(".")[2] for name in chosen} == {"mxl", "abc", "krn"}
    module = "tfds_builders.notagen_pretrain.notagen_pretrain_dataset_builder"
    monkeypatch.setattr(f"{module}.music21_scores", lambda: listing)
    assert build.run(build.Build(tmp_path, "pretrain", processes=1)) == 0
    directory = tmp_path / "notagen_pretrain" / "music21" / "2.0.0"
    assert {name for side in names(directory).values() for name in side} == chosen


def count(journal: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in journal.glob("*.jsonl"))


def test_a_killed_build_goes_on(folder, built, tmp_path, monkeypatch, capsys):
    program = (
        "from tests import hanging_converter; from tfds_builders import build, score_builder\n"
        "score_builder.convert = hanging_converter.convert_or_hang\n"
        "if __name__ == '__main__': build.main()\n"
    )
    command = [sys.executable, "-c", program, "--builder", "pretrain", "--config", "mine"]
    command += ["--source", str(folder), "--data-dir", str(tmp_path), "--processes", "1"]
    journal = tmp_path / "notagen_pretrain" / "mine" / "2.0.0.journal"
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    whole = 8  # scores before the one that hangs
    while process.poll() is None and count(journal) < whole:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert count(journal) == whole
    for path in journal.glob("*.jsonl"):  # as if it had been killed inside a line
        with path.open("ab") as stream:
            stream.write(b'{"name": "song.mxl", "stamp"')
    assert not (tmp_path / "notagen_pretrain" / "mine" / "2.0.0").exists()

    converted = []

    def counted(function, items, *rest):
        converted.extend(items)
        return run_isolated(function, converted, *rest)

    monkeypatch.setattr(score_builder, "run_isolated", counted)
    again = built_from(folder, tmp_path)
    assert len(converted) == 10 - whole
    assert not journal.exists()
    assert list(again.parent.glob("*incomplete*")) == []
    for path in built.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes() or path.name == "dataset_info.json"


def test_an_interrupt_gives_one_line(folder, tmp_path, monkeypatch, capsys):
    def interrupted(function, items, *rest):
        yield next(run_isolated(function, items, *rest))
        raise KeyboardInterrupt

    monkeypatch.setattr(score_builder, "run_isolated", interrupted)
    arguments = ["build", "--builder", "pretrain", "--config", "mine", "--source", str(folder)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--data-dir", str(tmp_path), "--processes", "1"])
    assert build.main() == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from here\n"
    assert count(tmp_path / "notagen_pretrain" / "mine" / "2.0.0.journal") == 1


def test_only_one_build_at_a_time(folder, tmp_path):
    journal = tmp_path / "notagen_pretrain" / "mine" / "2.0.0.journal"
    with (
        build._alone(journal),
        pytest.raises(NotaGenError, match="another build of this data set"),
    ):
        built_from(folder, tmp_path)


@pytest.fixture
def works(tmp_path) -> list[Work]:
    made = []
    for number in range(4):
        path = tmp_path / f"{number}.abc"
        path.write_text(tune(number))
        made.append(Work(f"{number}.abc", Score(path), f"work {number}"))
    return made


def journal_of(works: list[Work], folder: Path) -> Journal:
    with new_segment(str(folder)) as segment:
        for work in works:
            segment.add(segment.begin(work), convert(work))
    return Journal(str(folder))


def test_journal_forgets_what_changed(works, tmp_path, monkeypatch):
    journal = journal_of(works, tmp_path / "journal")
    entries = journal.entries(works)
    assert set(entries) == {work.name for work in works}
    assert journal.texts(entries["2.abc"])[1].startswith("L:1/8\nM:4/4\nK:C\nV:1 treble")
    journal.close()
    works[0].score.path.write_text(tune(40))
    works[1].score.path.unlink()
    assert set(journal.entries(works)) == {"2.abc", "3.abc"}
    # What became of a file since counts, whichever segment is read first.
    again = journal_of(works[:1], tmp_path / "again")
    for path in Path(again.folder).iterdir():
        path.rename(Path(journal.folder) / f"0{path.suffix}")
    assert journal.entries(works)["0.abc"].segment == "0"
    assert set(journal.entries(works)) == {"0.abc", "2.abc", "3.abc"}
    monkeypatch.setattr("tfds_builders.journal.tools", lambda: "another version")
    assert journal.entries(works) == {}


def test_a_changed_score_is_found_whatever_its_segments_are_called(works, tmp_path):
    journal = journal_of(works, tmp_path / "journal")
    for path in list((tmp_path / "journal").iterdir()):  # of two builds, the older one sorts last
        path.rename(path.with_name(f"~{path.suffix}"))
    works[0].score.path.write_text(tune(40))
    journal_of(works[:1], tmp_path / "journal")
    entries = journal.entries(works)
    assert set(entries) == {work.name for work in works}
    assert entries["0.abc"].converted == convert(works[0])[0]


def test_a_score_that_changes_while_it_is_read_is_read_again(works, tmp_path, monkeypatch):
    def changing(function, items, *rest):
        for outcome in run_isolated(function, items, *rest):
            if outcome.item.name == "2.abc":
                outcome.item.score.path.write_text(tune(40))
            yield outcome

    with monkeypatch.context() as patched:
        patched.setattr(score_builder, "run_isolated", changing)
        with pytest.raises(NotaGenError, match=r"2\.abc: changed while it was read \(1 scores in all\)"):
            built_from(tmp_path, tmp_path / "data")
    again = built_from(tmp_path, tmp_path / "data")
    expected = read_piece(works[2].score).reduced("C")
    assert [row["text"].decode() for side in rows(again).values() for row in side].count(expected) == 1


def test_a_broken_journal_is_named(works, tmp_path):
    journal = journal_of(works, tmp_path / "journal")
    entries = journal.entries(works)
    (texts,) = (tmp_path / "journal").glob("*.texts")
    content = texts.read_bytes()
    texts.write_bytes(bytes(len(content)))
    with pytest.raises(NotaGenError, match=r"\.texts: broken .*; delete .*journal to convert"):
        journal.texts(entries["0.abc"])
    texts.write_bytes(content[: entries["2.abc"].offset])  # the disk lost its end
    assert set(Journal(journal.folder).entries(works)) == {"0.abc", "1.abc"}


def test_choice_does_not_depend_on_the_order_of_the_scores(works, tmp_path):
    copy = Work("a copy", works[2].score, "work 2")
    entries = journal_of([*works, copy], tmp_path / "journal").entries([*works, copy])
    first, account = select(Listing([*works, copy]), entries, Rules())
    second, _ = select(Listing([copy, *reversed(works)]), entries, Rules())
    assert first == second
    assert account.dropped == {"exact copy of another score": ["a copy (2.abc)"]} or account.dropped == {
        "exact copy of another score": ["2.abc (a copy)"]
    }
    assert account.kept == {"train": 3, "validation": 1}


def test_files_of_a_split_are_cut_by_their_text(works, tmp_path):
    entries = journal_of(works, tmp_path / "journal").entries(works)
    kept, _ = select(Listing(works), entries, Rules())
    pieces = [*kept["train"], *kept["validation"]]
    assert shards.cut(pieces) == [tuple(pieces)]
    size = entries["0.abc"].converted.characters
    assert [len(part) for part in shards.cut(pieces, size + 1)] == [2, 2]
    shard = shards.Shard("file", 30, tuple(pieces[:2]), str(tmp_path / "journal"))
    numbered = list(shard())
    assert [number for number, _ in numbered] == list(range(30, 60))
    assert [row["key"] for _, row in numbered] == [*range(15), *range(15)]


def test_several_files_give_the_same_rows(folder, built, tmp_path, monkeypatch):
    monkeypatch.setattr(shards.cut, "__defaults__", (20_000,))
    many = built_from(folder, tmp_path)
    assert len(list(many.glob("*train.array_record*"))) > 1
    assert rows(many).keys() == rows(built).keys()
    for split, table in rows(built).items():
        for one, other in zip(table, rows(many)[split], strict=True):
            assert one == other


def test_a_folder_without_scores(tmp_path):
    with pytest.raises(NotaGenError, match="no score to build from; the source holds no score file"):
        built_from(tmp_path, tmp_path / "data")
    with pytest.raises(NotaGenError, match="no such folder"):
        folder_scores(tmp_path / "nowhere")
    (tmp_path / "a.abc").write_text(tune(1, bars=3))
    with pytest.raises(NotaGenError, match="none of the 1 scores can be used; 1 fewer than 8 bars"):
        built_from(tmp_path, tmp_path / "data")


def test_an_entry_of_a_refusal(works, tmp_path):
    works[0].score.path.write_text("")
    with new_segment(str(tmp_path / "journal")) as segment:
        for outcome in run_isolated(convert, map(segment.begin, works[:1])):
            segment.add(outcome.item, outcome.refusal)
    (entry,) = Journal(str(tmp_path / "journal")).entries(works).values()
    assert entry == Entry("0.abc", reason=entry.reason, detail=entry.detail)
    assert entry.reason
    assert json.dumps(dataclasses.asdict(entry))
