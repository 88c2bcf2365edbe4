"""A build on Apache Beam gives the same data set as one without."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from notagen_jax.errors import NotaGenError
from tests import planted_corpus
from tests.built_data import rows
from tests.planted_corpus import KEPT, REASONS, tune
from tfds_builders import beam_run, build

WORKERS = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"


def needs_beam() -> None:
    """Skip where Beam is not installed, except in CI, whose environment must have it."""
    if importlib.util.find_spec("apache_beam") is None:
        if os.environ.get("CI"):
            pytest.fail("apache-beam is not installed; the test extra brings it")
        pytest.skip("apache-beam is not installed (pip install 'notagen-jax[beam]')")


def same(first: Path, second: Path) -> None:
    """The same files with the same content; of record files, the same rows in the same order."""
    names = {path.name for path in second.iterdir()}
    assert {path.name for path in first.iterdir()} == names
    for name in names:
        # Records are protocol buffers, whose fields a process writes in an order of its own.
        if "array_record" not in name:
            assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert rows(first) == rows(second)


def test_beam_gives_the_same_data_set(tmp_path, monkeypatch):
    needs_beam()
    folder = tmp_path / "scores"
    planted_corpus.plant(folder)
    built = {}
    for beam in (False, True):
        data_dir = tmp_path / f"beam {beam}"
        options = build.Build(
            data_dir, config="mine", source=folder, beam=beam, beam_options=WORKERS, keep_journal=True
        )
        assert build.run(options) == 0
        built[beam] = data_dir / "notagen_classical" / "mine" / "2.0.0"
    same(built[True], built[False])
    # The same scores were converted, by more than one process.
    journal = built[True].parent / "2.0.0.journal"
    segments = list(journal.glob("*.jsonl"))
    lines = [line for path in segments for line in path.read_text().splitlines()]
    assert len(KEPT) + len(REASONS) > len(lines) > len(KEPT)
    assert len({path.stem.rsplit("-", 1)[0] for path in segments}) == 2
    # A build that is started again takes what the journal holds: no pipeline converts anything.
    shutil.rmtree(built[True])
    monkeypatch.setattr(beam_run, "convert_all", None)
    again = build.Build(tmp_path / "beam True", config="mine", source=folder, beam=True, keep_journal=True)
    assert build.run(again) == 0
    same(built[True], built[False])


def test_beam_failure_is_told(tmp_path, monkeypatch):
    needs_beam()
    (tmp_path / "a.abc").write_text(tune(1))

    def lost(journal: str) -> None:
        raise RuntimeError("Traceback of a worker\nworker 3 was lost")

    monkeypatch.setattr(beam_run, "new_segment", lost)
    options = build.Build(tmp_path / "data", "pretrain", "mine", tmp_path, beam=True)
    with pytest.raises(
        NotaGenError, match=r"the Beam pipeline failed \(worker 3 was lost.*; the same command"
    ):
        build.run(options)


def test_a_runner_that_cannot_start_is_told(tmp_path):
    needs_beam()
    (tmp_path / "a.abc").write_text(tune(1))
    options = build.Build(
        tmp_path / "data", "pretrain", "mine", tmp_path, beam=True, beam_options="--runner=Fl1nk"
    )
    with pytest.raises(NotaGenError, match=r"--beam-options '--runner=Fl1nk': Unexpected .* FlinkRunner"):
        build.run(options)


def test_without_beam_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    (tmp_path / "a.abc").write_text(tune(1))
    options = build.Build(Path(tmp_path / "data"), "pretrain", "mine", tmp_path, beam=True)
    with pytest.raises(NotaGenError, match=r"--beam needs Apache Beam: pip install 'notagen-jax\[beam\]'"):
        build.run(options)
