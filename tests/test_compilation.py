"""Compiled programs are kept on disk: a second process reads them and compiles nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

START = """
import json
import jax
import jax.numpy as jnp
from notagen_jax.compilation import enable_compilation_cache

events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
folder = enable_compilation_cache()
total = float(jax.jit(lambda x: (x @ x).sum())(jnp.ones((3, 3))))
print(json.dumps({
    "folder": folder and str(folder),
    "total": total,
    "hits": events.count("/jax/compilation_cache/cache_hits"),
    "misses": events.count("/jax/compilation_cache/cache_misses"),
}))
"""


def start(tmp_path: Path, **variables: str) -> dict:
    """What a fresh process, with tmp_path as its home, says of the cache after one small program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XDG_"))}
    environment = {**kept, "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", **variables}
    run = subprocess.run(
        [sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["total"] == 27
    return report


def entries(folder: Path) -> list[str]:
    """The compiled programs in a folder; JAX keeps the time of their last use beside them."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith("-atime"))


def test_a_second_start_compiles_nothing(tmp_path):
    folder = tmp_path / "cache" / "notagen-jax"
    first = start(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert first["folder"] == str(folder)
    assert first["misses"] > 0
    written = entries(folder)
    assert written
    second = start(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (second["hits"], second["misses"]) == (first["hits"] + first["misses"], 0)
    assert entries(folder) == written


def test_a_relative_cache_home_is_ignored(tmp_path):
    report = start(tmp_path, XDG_CACHE_HOME="cache")
    assert report["folder"] == str(tmp_path / ".cache" / "notagen-jax")
    assert entries(tmp_path / ".cache" / "notagen-jax")


def test_a_chosen_folder_stays(tmp_path):
    chosen = tmp_path / "chosen"
    report = start(
        tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        JAX_COMPILATION_CACHE_DIR=str(chosen),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    assert report["folder"] == str(chosen)
    assert entries(chosen)
    assert not (tmp_path / "cache").exists()


def test_where_no_folder_can_be_made_everything_works(tmp_path):
    # A file in the folder's place: what holds for root too, whom a mode does not stop.
    (tmp_path / "cache").write_text("")
    report = start(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert report["folder"] is None
    assert (report["hits"], report["misses"]) == (0, 0)
