"""Damaged scores are kept or refused, and the damage is the same for the same seed."""

from pathlib import Path

import pytest

from tests.fuzz_scores import DATA, Case, Fuzz, fuzz, read_case
from tests.score_mutations import mutate

SMALL = [DATA / name for name in ("bach_bwv113_8.mxl", "frere_jacques.krn", "frere_jacques.md")]
SMALL += [DATA / name for name in ("mozart_k464_opening.mxl", "three_tunes.abc")]


@pytest.mark.parametrize("start", range(0, 80, 10))
def test_each_damaged_score_is_kept_or_refused(start):
    for number in range(start, start + 10):
        assert read_case(Case(tuple(SMALL), 0, number))


def test_damage_is_a_function_of_seed_and_number():
    mutants = [mutate(SMALL, 1, number) for number in range(50)]
    assert mutants == [mutate(SMALL, 1, number) for number in range(50)]
    assert mutants != [mutate(SMALL, 2, number) for number in range(50)]
    assert {mutant.suffix for mutant in mutants} >= {".xml", ".mxl", ".abc", ".krn"}
    assert len({change for mutant in mutants for change in mutant.changes}) > 15


def test_a_run_counts_and_goes_on(tmp_path, capsys):
    options = Fuzz(DATA, out=tmp_path, count=3, seed=3, processes=1)
    assert fuzz(options)
    first = capsys.readouterr().out
    assert "3 damaged scores" in first
    assert first.rstrip().endswith("0 crashed")
    journal = Path(tmp_path, "seed-3.jsonl")
    lines = journal.read_text().splitlines(True)
    journal.write_text("".join(lines[:2]) + lines[2][:7])
    assert fuzz(options)
    assert capsys.readouterr().out == first
