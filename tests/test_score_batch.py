"""A score that hangs, crashes or eats memory costs its own refusal, and nothing else."""

import inspect
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.score import ScoreError
from notagen_jax.score.batch import Done, Refused, run_isolated


def behave(how: str) -> str:
    if how == "hang":
        time.sleep(600)
    elif how == "spin":
        while True:
            pass
    elif how == "who":
        return str(os.getpid())
    elif how == "die":
        os._exit(3)
    elif how == "refuse":
        raise ScoreError("the file is empty", "0 bytes", "a.xml")
    elif how == "fault":
        raise ZeroDivisionError("nought")
    elif how == "devour":
        return "x" * (3 * 2**30)
    elif how == "no package":
        raise NotaGenError("install abctoolkit")
    return f"did {how}"


def test_every_outcome_in_order():
    items = ["one", "hang", "two", "die", "refuse", "fault", "three", "four"]
    outcomes = list(run_isolated(behave, items, processes=1, seconds=3.0))
    assert [outcome.item for outcome in outcomes] == items
    assert {outcome.item: outcome.value for outcome in outcomes if isinstance(outcome, Done)} == {
        item: f"did {item}" for item in ("one", "two", "three", "four")
    }
    code, start = inspect.getsourcelines(behave)
    line = start + next(number for number, text in enumerate(code) if "ZeroDivisionError" in text)
    fault = f"ZeroDivisionError: nought, tests/test_score_batch.py:{line}"
    refusals = {outcome.item: str(outcome.refusal) for outcome in outcomes if isinstance(outcome, Refused)}
    assert refusals == {
        "hang": "hang: it took longer than 3 s",
        "die": "die: the converter crashed on it (exit status 3)",
        "refuse": "a.xml: the file is empty (0 bytes)",
        "fault": f"fault: the converter crashed on it ({fault})",
    }
    assert next(o.refusal for o in outcomes if o.item == "refuse").reason == "the file is empty"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc whether a process lives")
def test_a_worker_ends_with_its_parent():
    program = (
        "from notagen_jax.score.batch import run_isolated\n"
        "from tests.test_score_batch import behave\n"
        "if __name__ == '__main__':\n"
        "    outcomes = run_isolated(behave, ['who', 'spin'])\n"
        "    print(next(outcomes).value, flush=True)\n"
        "    next(outcomes)\n"
    )
    folder = Path(__file__).parent.parent
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=folder, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and is_running(worker):
        time.sleep(0.1)
    assert not is_running(worker)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_memory_is_bounded():
    outcomes = list(run_isolated(behave, ["devour", "one"], seconds=60.0, memory=2 * 2**30))
    assert outcomes[0].refusal.reason == "it needs too much memory"
    assert outcomes[1].value == "did one"


def test_a_fault_of_the_setup_ends_the_run():
    with pytest.raises(NotaGenError, match="install abctoolkit"):
        list(run_isolated(behave, ["one", "no package", "two"]))


def test_items_are_taken_as_they_are_needed():
    taken = []

    def many():
        for number in range(1000):
            taken.append(number)
            yield str(number)

    outcomes = run_isolated(behave, many())
    assert next(outcomes).value == "did 0"
    assert len(taken) < 50
    outcomes.close()
