"""The report of a GPU: parts as processes, too little memory, missing packages, resuming."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from eval import gpu_checks, gpu_report
from eval.gpu_checks import GpuChecks, check_flash, check_float32, distance, music
from eval.gpu_report import GpuReport, Part, last_line, markdown, plan, run, run_part
from notagen_jax.errors import NotaGenError

MACHINE = {
    "platform": "gpu",
    "devices": 1,
    "device": "NVIDIA H200",
    "date": "2026-11-24",
    "python": "3.12.1",
    "versions": {"jax": "0.11.2"},
}


def test_parts_run_as_processes_and_only_what_is_missing_runs_again(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    parts = [
        Part("tests", ("pytest", "tests/test_labels.py"), ("pytest",), figures=False),
        Part("too long", ("eval.throughput", "train", "--model", "mini", "--length", "999"), ("optax",)),
        Part("absent", ("no.such",), ("no_such_module",)),
    ]
    monkeypatch.setattr(gpu_report, "plan", lambda mini, torch: parts)
    options = GpuReport(tmp_path, mini=True)
    text = run(options)
    assert text == (tmp_path / "report.md").read_text()
    assert text.startswith(f"### {jax.devices()[0].device_kind}, 20")
    assert f"jax {jax.__version__}" in text
    assert "Tests on the device: " in text
    assert "passed" in text
    assert "- too long: error: --length 999: the window of mini is 512" in text
    assert "- absent: not run: no_such_module not installed" in text
    assert "`python -m pytest tests/test_labels.py`" in text
    ran = []
    monkeypatch.setattr(gpu_report, "run_part", lambda part, _: ran.append(part.name) or {"error": "again"})
    run(options)
    assert ran == ["too long", "absent"]
    with pytest.raises(NotaGenError, match="--parts nothing: choose from tests, too long, absent"):
        run(GpuReport(tmp_path, ("nothing",)))
    with pytest.raises(NotaGenError, match="sees no GPU"):
        run(GpuReport(tmp_path / "other"))


def test_rows_are_taken_down_until_they_fit(monkeypatch: pytest.MonkeyPatch):
    tried = []

    def run_words(words: list[str], figures: bool, options: GpuReport) -> dict[str, Any]:
        tried.append(words[-1])
        return {"error": "RESOURCE_EXHAUSTED: 90 GiB"} if words[-1] != "2" else {"figures": {}}

    monkeypatch.setattr(gpu_report, "_run_words", run_words)
    assert run_part(Part("train", ("x",), rows=(8, 4, 2, 1)), GpuReport()) == {"figures": {}}
    assert tried == ["8", "4", "2"]


def test_a_process_is_ended_at_its_limit(tmp_path: Path):
    sleep = Part("slow", ("timeit", "-n", "1", "import time; time.sleep(60)"), figures=False)
    result = run_part(sleep, GpuReport(tmp_path, limit=1))
    assert result["error"] == "still running after 1 s"


def test_the_line_of_memory_says_most():
    text = "W1 jax: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 90 GiB\nTraceback\n  raise\n"
    assert "90 GiB" in last_line(text)
    assert last_line("a\nb\n\n") == "b"
    assert last_line("") == ""


def test_plans_leave_pytorch_out_where_it_is_missing():
    for mini in (True, False):
        words = {part.name: part.words for part in plan(mini, torch=False)}
        for name, part in words.items():
            assert "train" not in part or part[part.index("--torch") + 1 :] == ()
            assert "sample" not in part or "--no-torch" in part, name
        assert any("--torch" not in part.words for part in plan(mini, torch=True) if "train" in part.words)


def test_tables_hold_the_figures():
    side = {"patches_per_second": 5000.4, "characters_per_second": 61234.0, "seconds_per_update": 0.8192}
    side |= {"mfu": 0.5012, "mfu_all_positions": 0.5999, "peak_bytes": 40 * 2**30, "ratio": 1.0}
    twin = {**side, "patches_per_second": 2000.0, "ratio": 2.5, "peak_bytes": None}
    train = {"rows": 4, "length": 1024, "peak_flops": 989.4e12, "peak_source": "published"}
    train["sides"] = {"PyTorch, official": twin, "notagen-jax": side}
    batch = {"characters_per_second": 12345.0, "ratio": 310.44}
    sample = {"official": {"characters_per_second": 39.8}, "batches": {"64": batch}}
    check = {"name": "flash", "passed": False, "detail": "1e-2 from float32"}
    results = {
        "checks": {"command": "python -m eval.gpu_checks", "figures": [check]},
        "train large": {"command": "python -m eval.throughput train --model large", "figures": train},
        "sample large": {"command": "python -m eval.throughput sample --model large", "figures": sample},
    }
    lines = markdown(MACHINE, results, torch=True).splitlines()
    assert lines[0] == "### NVIDIA H200, 2026-11-24"
    assert "| flash | **failed** | 1e-2 from float32 |" in lines
    shared = "| 4 × 1024 | {} | 61234 | 819.2 | 50.1% (60.0%) | {} | {} |"
    assert "| train large: notagen-jax " + shared.format("5000", "40.0", "1.00") in lines
    assert "| train large: PyTorch, official " + shared.format("2000", "", "2.50") in lines
    assert "| sample large: notagen-jax | 64 | 12345 | 310.4 |" in lines
    assert any("989.4 TFLOP/s (published)" in line for line in lines)


def test_checks_that_need_a_gpu_say_so():
    options = GpuChecks("mini", 32)
    if jax.default_backend() == "cpu":
        assert check_flash(options, packed=False).passed is None
        assert check_float32(options).passed is None
    packed = music(options, packed=True)
    assert sorted(np.unique(packed["segments"])) == [0, 1, 2, 3]
    assert not packed["patches"][packed["segments"] == 0].any()


def test_the_distance_of_trees():
    assert distance({"a": np.array([3.0, 0.0])}, {"a": np.array([0.0, 4.0])}) == pytest.approx(1.25)
    assert distance([np.ones(3)], [np.ones(3)]) == 0


def test_a_sampler_that_draws_another_character_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_checks, "SAMPLED_PATCHES", 16)
    good = gpu_checks.check_sampler(1)
    assert good.passed, good.detail
    # Without the filter to the likeliest one, characters are drawn by chance.
    monkeypatch.setattr(
        gpu_checks,
        "SamplingSettings",
        lambda **options: gpu_checks_settings(**{**options, "top_k": 9, "temperature": 5.0}),
    )
    assert gpu_checks.check_sampler(1).passed is False


gpu_checks_settings = gpu_checks.SamplingSettings


def test_findings_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(gpu_checks, "check_sampler", lambda batch: gpu_checks.Check("s", batch == 1, "d"))
    found = gpu_checks.run(GpuChecks("mini", 32, tmp_path / "checks.json"))
    assert [check.passed for check in found][-2:] == [True, False]
    assert json.loads((tmp_path / "checks.json").read_text())[-1] == {
        "name": "s",
        "passed": False,
        "detail": "d",
    }
    assert "FAILED  s: d" in capsys.readouterr().out
