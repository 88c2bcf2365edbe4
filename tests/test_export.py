"""A data set as one file: the same rows, read by numpy alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from notagen_jax.errors import NotaGenError
from tests.built_data import rows
from tests.planted_corpus import DATA, tune
from tfds_builders import build, export
from tfds_builders.exported import read_exported
from train.config import DataConfig
from train.corpus import has_held_out, open_corpus
from train.data import Loader

ROOT = Path(__file__).parents[1]
WITHOUT = """
import sys
for name in ("tensorflow_datasets", "array_record", "grain"):
    sys.modules[name] = None
from train.config import DataConfig
from train.corpus import open_corpus
from train.data import Loader
batch = Loader([open_corpus(sys.argv[1], "train")], DataConfig(rows=2, length=64, workers=2), 3).batch(5)
print(int(batch["patches"].sum()), int(batch["segments"].sum()))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder, data_dir = tmp_path_factory.mktemp("scores"), tmp_path_factory.mktemp("data")
    (folder / "book.abc").write_text("\n".join(tune(number) for number in range(5)))
    (folder / "bach.mxl").write_bytes((DATA / "bach_bwv113_8.mxl").read_bytes())
    table = ["path,composer,instrumentation", 'book.abc,"Wolf, Hugo",Chamber']
    table.append('bach.mxl,"Bach, Johann Sebastian",')
    (folder / "metadata.csv").write_text("\n".join(table))
    assert build.run(build.Build(data_dir, config="mine", source=folder)) == 0
    return data_dir / "notagen_classical" / "mine" / "2.0.0"


@pytest.fixture(scope="module")
def exported(built, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "mine.npz"
    assert export.run(export.Export(built, out)) == 0
    return out


def test_the_tableare_the_same(built, exported):
    for split, table in rows(built).items():
        corpus, original = open_corpus(str(exported), split), open_corpus(str(built), split)
        assert corpus.name == original.name == "notagen_classical/mine"
        assert len(corpus.rows) == len(table)
        assert [corpus.rows[number] for number in range(len(table))] == table
        np.testing.assert_array_equal(corpus.index, original.index)
        assert corpus.labels() == original.labels()
        with pytest.raises(IndexError):
            corpus.rows[len(table)]
    assert has_held_out(str(exported)) is has_held_out(str(built)) is True
    config = DataConfig(rows=2, length=64, prompts=True)
    loaders = [Loader([open_corpus(str(path), "train")], config, 1) for path in (built, exported)]
    assert loaders[0].fingerprint == loaders[1].fingerprint
    np.testing.assert_array_equal(*[loader.batch(7)["patches"] for loader in loaders])


def test_numpy_alone_reads_it(exported):
    command = [sys.executable, "-c", WITHOUT, str(exported)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    expected = Loader([open_corpus(str(exported), "train")], DataConfig(rows=2, length=64), 3).batch(5)
    assert done.stdout.split() == [str(int(expected[name].sum())) for name in ("patches", "segments")]


def test_mistakes_are_named(exported, tmp_path):
    with pytest.raises(NotaGenError, match=r"name a file that ends \.npz"):
        export.run(export.Export(exported, tmp_path / "out.zip"))
    with pytest.raises(NotaGenError, match="holds no test split, only train, validation"):
        open_corpus(str(exported), "test")
    cut = tmp_path / "cut.npz"
    cut.write_bytes(exported.read_bytes()[:-200])
    for path in (cut, tmp_path / "missing.npz"):
        with pytest.raises(NotaGenError, match=f"{path.name}: not an exported data set"):
            read_exported(str(path))
    if os.geteuid():
        with pytest.raises(NotaGenError, match="cannot write"):
            export.run(export.Export(exported, Path("/out.npz")))
