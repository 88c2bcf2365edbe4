"""`notagen prepare`: what it writes, what it counts, how it goes on, how it fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from notagen_jax.cli import prepare
from notagen_jax.cli.prepare import Prepare
from notagen_jax.errors import NotaGenError
from notagen_jax.score import KEYS, Score, read_piece
from notagen_jax.score.batch import run_isolated
from notagen_jax.score.listing import find_files

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(DATA / "bach_bwv113_8.mxl", folder / "chorale.mxl")
    shutil.copy(DATA / "mozart_k464_opening.mxl", folder / "sub" / "Chorale.mxl")
    (folder / "broken.xml").write_text("<score-partwise>")
    (folder / "empty.mxl").write_bytes(b"")
    (folder / ".hidden.mxl").write_bytes(b"")
    (folder / "notes.txt").write_text("no score")
    return folder


def account(out: Path) -> dict:
    report = json.loads((out / "report.json").read_text())
    refused = [line for lines in report["refused_by_reason"].values() for line in lines]
    assert report["found"] == report["kept"] + report["refused"]
    assert report["kept"] == len(report["pieces"]) == report["written_now"] + report["written_before"]
    assert report["refused"] == len(refused)
    return report


def run(*inputs: Path, out: Path, **options) -> int:
    return prepare.run(Prepare(inputs=inputs, out=out, processes=1, **options))


def test_writes_every_text_and_accounts_for_every_file(scores, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(scores, out=out) == 0
    report = account(out)
    assert (report["found"], report["kept"]) == (4, 2)
    assert set(report["refused_by_reason"]) == {"not well-formed XML", "the file is empty"}
    assert report["other_files"] == [str(scores / "notes.txt")]
    names = {piece["source"]: piece["name"] for piece in report["pieces"]}
    name = names[str((scores / "chorale.mxl").resolve())]
    piece = read_piece(scores / "chorale.mxl")
    assert (out / "interleaved" / f"{name}.abc").read_text() == piece.interleaved
    for key in KEYS:
        assert (out / "reduced" / key / f"{name}.abc").read_text() == piece.reduced(key)
    printed = capsys.readouterr().out
    assert "4 scores = 2 kept + 2 refused" in printed
    assert "broken.xml: not well-formed XML" in printed
    assert "1 other files, which are no scores: .txt 1" in printed


def test_what_a_folder_holds_is_found_or_named(scores, monkeypatch):
    (scores / "sub" / "linked").symlink_to(scores, target_is_directory=True)
    (scores / "loop.mxl").symlink_to(scores / "loop.mxl")
    found, others = find_files([scores])
    names = ["broken.xml", "chorale.mxl", "empty.mxl", "loop.mxl", "Chorale.mxl"]
    assert [path.name for path in found] == names
    assert others == [scores / "notes.txt", scores / "sub" / "linked"]
    out = scores / "out"
    assert run(scores, out=out) == 0
    (line,) = account(out)["refused_by_reason"]["the file cannot be read"]
    assert line.startswith(f"{scores / 'loop.mxl'}: ")
    real = os.scandir

    def closed(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(NotaGenError, match=r"sub: the folder cannot be read \(Permission denied\)"):
        find_files([scores])


def test_pieces_of_one_name_get_two_names(scores, tmp_path):
    out = tmp_path / "out"
    run(scores, out=out)
    names = [piece["name"] for piece in account(out)["pieces"]]
    assert len({name.casefold() for name in names}) == 2
    assert sorted(path.stem for path in (out / "interleaved").iterdir()) == sorted(names)


def test_goes_on_where_it_stopped(scores, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(scores, out=out)
    first = account(out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.abc")}
    run(scores, out=out)
    again = account(out)
    assert (again["written_now"], again["written_before"]) == (0, 2)
    assert again["pieces"] == first["pieces"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.abc")} == stamps

    # A piece that lost a file, and a journal cut short by a crash: only those are written again.
    (out / "reduced" / "C" / f"{first['pieces'][0]['name']}.abc").unlink()
    run(scores, out=out)
    assert account(out)["written_now"] == 1
    journal = out / "pieces.jsonl"
    journal.write_text(journal.read_text().splitlines(True)[0] + '{"name": "half')
    run(scores, out=out)
    run(scores, out=out)
    assert account(out)["written_before"] == 2


def test_a_changed_score_is_prepared_again(scores, tmp_path):
    out = tmp_path / "out"
    run(scores / "chorale.mxl", out=out)
    shutil.copy(DATA / "duchambge_ronde.mxl", scores / "chorale.mxl")
    run(scores / "chorale.mxl", out=out)
    assert account(out)["written_now"] == 1
    assert (out / "interleaved" / "chorale.abc").read_text() == read_piece(
        DATA / "duchambge_ronde.mxl"
    ).interleaved


def test_output_inside_the_input_is_no_input(scores):
    out = scores / "prepared"
    run(scores, out=out)
    run(scores, out=out)
    assert account(out)["found"] == 4


def test_every_tune_of_a_file_is_counted(tmp_path, capsys):
    folder = tmp_path / "scores"
    folder.mkdir()
    shutil.copy(DATA / "three_tunes.abc", folder)
    shutil.copy(DATA / "frere_jacques.md", folder)
    (folder / "README.md").write_text("# Tunes\n")
    out = tmp_path / "out"
    assert run(folder, out=out) == 0
    report = account(out)
    assert (report["files"], report["found"], report["kept"], report["refused"]) == (2, 5, 4, 1)
    assert [piece["name"] for piece in report["pieces"]] == [
        "frere_jacques",
        "three_tunes.1",
        "three_tunes.3",
        "three_tunes.3-2",
    ]
    assert (out / "interleaved" / "three_tunes.3-2.abc").read_text() == read_piece(
        Score(folder / "three_tunes.abc", "3-2")
    ).interleaved
    printed = capsys.readouterr().out
    assert "5 scores in 2 files = 4 kept + 1 refused" in printed
    assert "three_tunes.abc:2: abc2xml cannot read it" in printed

    # One tune is mended: only that one is read again.
    tunes = (folder / "three_tunes.abc").read_text()
    (folder / "three_tunes.abc").write_text(tunes.replace("[Ad\n", "[Ad]2 z2|\n"))
    run(folder, out=out)
    report = account(out)
    assert (report["kept"], report["written_now"], report["written_before"]) == (5, 1, 4)


def test_what_was_refused_is_not_tried_again_unless_asked(scores, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(scores, out=out)
    first = account(out)
    tried = []

    def watched(function, items, *arguments):
        tried.extend(str(item) for item in items)
        return run_isolated(function, items, *arguments)

    monkeypatch.setattr(prepare, "run_isolated", watched)
    run(scores, out=out)
    again = account(out)
    assert tried == []
    assert again["refused_by_reason"] == first["refused_by_reason"]
    run(scores, out=out, retry=True)
    assert sorted(tried) == [str(scores / "broken.xml"), str(scores / "empty.mxl")]
    shutil.copy(DATA / "duchambge_ronde.mxl", scores / "empty.mxl")
    run(scores, out=out)
    assert (account(out)["kept"], account(out)["refused"]) == (3, 1)


def test_a_score_that_broke_takes_its_texts_with_it(scores, tmp_path):
    out = tmp_path / "out"
    run(scores / "chorale.mxl", out=out)
    (scores / "chorale.mxl").write_bytes(b"no more")
    assert run(scores / "chorale.mxl", out=out) == 1
    assert not list(out.rglob("*.abc"))


def test_names_that_no_file_can_have(scores, tmp_path):
    long = scores / f"{'n' * 240}.mxl"
    shutil.copy(DATA / "duchambge_ronde.mxl", long)
    odd = scores / os.fsdecode(b"\xff.mxl")
    shutil.copy(DATA / "duchambge_ronde.mxl", odd)
    out = tmp_path / "out"
    run(long, odd, out=out)
    names = {piece["source"]: piece["name"] for piece in account(out)["pieces"]}
    assert names[str(long)].startswith("n" * 200 + "-")
    assert names[str(odd)].startswith("-")
    run(long, odd, out=out)
    assert account(out)["written_before"] == 2


def test_an_interrupt_leaves_what_a_later_run_goes_on_from(tmp_path):
    folder = tmp_path / "scores"
    folder.mkdir()
    for number in range(4):
        shutil.copy(DATA / "mozart_k464_opening.mxl", folder / f"{number}.mxl")
    out = tmp_path / "out"
    program = (
        "import signal, sys; from notagen_jax.cli import main, prepare; from tests import hanging_converter\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\n"
        "prepare.prepare_score = hanging_converter.prepare_score_or_hang\n"
        "if __name__ == '__main__': main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", program, "prepare", str(folder), "--out", str(out), "--processes", "1"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    journal = out / "pieces.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_text().count("\n") == 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.strip() == "notagen: interrupted; files already written are whole"
    assert process.returncode == 130
    assert [json.loads(line)["name"] for line in journal.read_text().splitlines()] == ["0", "1", "2"]
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]
    run(folder, out=out)
    report = account(out)
    assert (report["kept"], report["written_before"]) == (4, 3)


def test_nothing_kept_is_a_failure(scores, tmp_path):
    assert run(scores / "empty.mxl", out=tmp_path / "out") == 1


def test_mistakes_give_one_message(scores, tmp_path):
    with pytest.raises(NotaGenError, match="name score files or folders"):
        run(out=tmp_path / "out")
    with pytest.raises(NotaGenError, match="no such file or folder"):
        run(tmp_path / "nowhere", out=tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(NotaGenError, match="no score found"):
        run(tmp_path / "bare", out=tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotaGenError, match="cannot make the folder"):
        run(scores, out=tmp_path / "file" / "out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "interleaved").write_text("in the way")
    with pytest.raises(NotaGenError, match="cannot write"):
        run(scores, out=tmp_path / "taken")
    with pytest.raises(NotaGenError, match="--processes 0"):
        prepare.run(Prepare(inputs=(scores,), out=tmp_path / "out", processes=0))
