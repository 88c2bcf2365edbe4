"""Everything that wants measuring on a GPU, in one command: `python -m eval.gpu_report --out DIR`.

Checks of the arithmetic, the tests that a GPU can break, and the speed of training and sampling beside
PyTorch, each a process of its own with a time limit. `DIR/report.md` is a section for
docs/performance.md; it is written anew after every part, so that a run cut short keeps what it had.
The same command goes on with the parts that are missing or failed. Needs jax, flax and optax; parts that
need PyTorch, transformers, orbax or pytest say so where these are missing.
"""

import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_json, write_atomic

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "torch", "transformers")
ROOT = Path(__file__).parent.parent
TESTS = (
    "tests/test_parity.py",
    "tests/test_model.py",
    "tests/test_char_chunks.py",
    "tests/test_sampling_decode.py",
    "tests/test_sampling_generate.py",
    "tests/test_train_step.py",
)
"""Tests whose result depends on the device's arithmetic."""
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "OutOfMemory")


@dataclasses.dataclass(frozen=True)
class GpuReport:
    """Measure this machine's GPU and write a section for docs/performance.md."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("gpu-report")
    """Folder of report.md and of the figures of each part."""
    parts: tuple[str, ...] = ()
    """Only these parts; empty: all. An unknown one is refused with the list."""
    limit: int = 540
    """Seconds that each part may take."""
    mini: bool = False
    """The same at the size of `mini` and a few updates, to try the command itself, also on a CPU."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One process: `python -m` with these words, and `--json FILE` where `figures`."""

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Modules without which it cannot run."""
    rows: tuple[int, ...] = ()
    """Rows of a batch to try, in turn, until they fit the memory."""
    figures: bool = True


def train_part(name: str, model: str, *words: str, rows: tuple[int, ...]) -> Part:
    """Training speed at one setting."""
    return Part(name, ("eval.throughput", "train", "--model", model, *words), ("optax",), rows)


def plan(mini: bool, torch: bool) -> list[Part]:
    """The parts in their order; without PyTorch the twins are left out."""
    twins = () if torch else ("--torch",)
    ours = ("--torch",)  # our side alone
    official = () if torch else ("--no-torch",)
    tests = Part("tests", ("pytest", *TESTS), ("pytest",), figures=False)
    if mini:
        tiny = ("--length", "32", "--steps", "2", "--rounds", "1")
        return [
            Part("checks", ("eval.gpu_checks", "--model", "mini", "--length", "32")),
            dataclasses.replace(tests, words=("pytest", "tests/test_flops.py")),
            train_part("train mini", "mini", *tiny, *twins, rows=(1,)),
            Part("sample mini", ("eval.throughput", "sample", "--model", "mini", "--quick", *official)),
        ]
    bfloat16 = ("--dtype", "bfloat16", "--attention", "cudnn", "--length", "1024", "--steps", "5")
    plain = ("--dtype", "bfloat16", "--length", "1024", "--steps", "5")
    sample = ("eval.throughput", "sample", "--dtype", "bfloat16", "--model")
    return [
        Part("checks", ("eval.gpu_checks",)),
        train_part("train large", "large", *bfloat16, *twins, rows=(4, 2, 1)),
        train_part("train small", "small", *bfloat16, *twins, rows=(8, 4, 2)),
        Part("sample large", (*sample, "large", "--batches", "1", "64", *official)),
        Part("sample small", (*sample, "small", "--batches", "1", "64", *official)),
        # What pays on our side alone.
        train_part("large, all at once", "large", *bfloat16, "--char-chunk", "0", *ours, rows=(4, 2, 1)),
        train_part("large, chunks of 256", "large", *bfloat16, "--char-chunk", "256", *ours, rows=(4, 2, 1)),
        train_part("large, unrolled", "large", *bfloat16, "--unroll", "20", *ours, rows=(4, 2, 1)),
        train_part("large, remat, more rows", "large", *bfloat16, "--remat", *ours, rows=(16, 8, 4)),
        train_part("large, attention dropout", "large", *plain, *ours, rows=(4, 2, 1)),
        tests,
    ]


def run(options: GpuReport) -> str:
    """Run what is missing, write the report after each part, and return its text.

    Raises `NotaGenError` on an unknown part, or without a GPU unless `mini`.
    """
    if options.limit < 1:
        raise NotaGenError(f"--limit must be at least 1 second, got {options.limit}")
    torch = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    parts = plan(options.mini, torch)
    unknown = sorted(set(options.parts) - {part.name for part in parts})
    if unknown:
        names = ", ".join(part.name for part in parts)
        raise NotaGenError(f"--parts {', '.join(unknown)}: choose from {names}")
    machine = describe_machine(options.limit)
    if machine["platform"] == "cpu" and not options.mini:
        raise NotaGenError("JAX sees no GPU here; install jax[cuda13], or try the command with --mini")
    results: dict[str, dict[str, Any]] = {}
    for part in parts:
        path = options.out / f"{part.name.replace(', ', '-').replace(' ', '-')}.json"
        before = read_json(path, "delete it") if path.is_file() else None
        wanted = not options.parts or part.name in options.parts
        if before is not None and ("error" not in before or not wanted):
            results[part.name] = before
        elif wanted:
            print(f"{part.name} …", file=sys.stderr, flush=True)
            results[part.name] = run_part(part, options)
            write_atomic(path, json.dumps(results[part.name], indent=1) + "\n")
        write_atomic(options.out / "report.md", markdown(machine, results, torch))
    text = markdown(machine, results, torch)
    print(text)
    return text


def describe_machine(limit: int) -> dict[str, Any]:
    """Device, platform and versions; asked of a process of its own, so that this one holds no memory."""
    code = "import jax; d = jax.devices(); print(d[0].platform, len(d), d[0].device_kind, sep='|')"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=limit, check=False
    )
    if found.returncode:
        raise NotaGenError(f"JAX does not start here: {last_line(found.stderr)}")
    platform, count, kind = found.stdout.strip().splitlines()[-1].split("|")
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "platform": platform,
        "devices": int(count),
        "device": kind,
        "date": datetime.date.today().isoformat(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "versions": versions,
    }


def run_part(part: Part, options: GpuReport) -> dict[str, Any]:
    """The figures of a part, or {"error": why there are none}; `seconds` and `command` beside them."""
    missing = [name for name in part.needs if importlib.util.find_spec(name) is None]
    if missing:
        return {"error": f"not run: {', '.join(missing)} not installed"}
    result: dict[str, Any] = {}
    for rows in part.rows or (None,):
        words = [*part.words, *(["--rows", str(rows)] if rows else [])]
        result = _run_words(words, part.figures, options)
        if not any(sign in result.get("error", "") for sign in OUT_OF_MEMORY):
            return result
        print(f"  {rows} rows do not fit", file=sys.stderr, flush=True)
    return result


def _run_words(words: list[str], figures: bool, options: GpuReport) -> dict[str, Any]:
    target = options.out.absolute() / ".figures.json"
    target.unlink(missing_ok=True)
    command = [sys.executable, "-m", *words, *(["--json", str(target)] if figures else [])]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    began = time.monotonic()
    told = {"command": " ".join(["python", "-m", *words])}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=options.limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {**told, "error": f"still running after {options.limit} s"}
    told["seconds"] = f"{time.monotonic() - began:.0f}"
    if figures and target.is_file():
        found = {**told, "figures": json.loads(target.read_text(encoding="utf-8"))}
        target.unlink()
        return found
    if not figures:
        told["summary"] = last_line(done.stdout)
        return told if done.returncode == 0 else {**told, "error": told["summary"]}
    return {**told, "error": last_line(done.stderr) or f"exit status {done.returncode}"}


def last_line(text: str) -> str:
    """The line of an error's text that says most: that of memory where there is one, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    full = [line for line in lines if any(sign in line for sign in OUT_OF_MEMORY)]
    return (full or lines or [""])[-1][:300]


def markdown(machine: dict[str, Any], results: dict[str, dict[str, Any]], torch: bool) -> str:
    """The report as a section of docs/performance.md."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    count = f"{machine['devices']} × " if machine["devices"] > 1 else ""
    lines = [f"### {count}{machine['device']}, {machine['date']}", ""]
    lines += [f"Python {machine['python']}, {versions}.", ""]
    if not torch:
        lines += ["PyTorch or transformers is not installed here, so there are no ratios.", ""]
    writers: list[tuple[str, Callable[[dict[str, dict[str, Any]]], list[str]]]] = [
        ("checks", checks_table),
        ("train", training_table),
        ("sample", sampling_table),
    ]
    for kind, write in writers:
        found = {name: r["figures"] for name, r in results.items() if kind_of(r) == kind and "figures" in r}
        if found:
            lines += [*write(found), ""]
    if "summary" in results.get("tests", {}):
        lines += [f"Tests on the device: {results['tests']['summary']}.", ""]
    failed = {name: result["error"] for name, result in results.items() if "error" in result}
    lines += [f"- {name}: {error}" for name, error in failed.items()]
    lines += [""] * bool(failed)
    commands = [f"- {name}: `{result['command']}`" for name, result in results.items() if "command" in result]
    return "\n".join([*lines, "Commands:", "", *commands]) + "\n"


def kind_of(result: dict[str, Any]) -> str:
    """Which table a result belongs to."""
    words = result.get("command", "").split()
    if "eval.gpu_checks" in words:
        return "checks"
    return next((kind for kind in ("train", "sample") if kind in words), "")


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def checks_table(found: dict[str, Any]) -> list[str]:
    """What `eval.gpu_checks` found."""
    names = {True: "ok", False: "**failed**", None: "not run"}
    rows = [
        [check["name"], names[check["passed"]], check["detail"]] for part in found.values() for check in part
    ]
    return table(["check", "", ""], rows)


def training_table(found: dict[str, Any]) -> list[str]:
    """Training speed; MFU counts real characters, in brackets all 16 positions of every patch."""
    columns = ("rows × patches", "patches/s", "chars/s", "ms/update", "MFU (16 a patch)", "GiB", "time/ours")
    rows = []
    for part, figures in found.items():
        for side, row in figures["sides"].items():
            peak = row["peak_bytes"]
            rows.append(
                [
                    f"{part}: {side}",
                    f"{figures['rows']} × {figures['length']}",
                    f"{row['patches_per_second']:.0f}",
                    f"{row['characters_per_second']:.0f}",
                    f"{1000 * row['seconds_per_update']:.1f}",
                    f"{row['mfu']:.1%} ({row['mfu_all_positions']:.1%})",
                    "" if peak is None else f"{peak / 2**30:.1f}",
                    f"{row['ratio']:.2f}",
                ]
            )
    sources = {f"{f['peak_flops'] / 1e12:.4g} TFLOP/s ({f['peak_source']})" for f in found.values()}
    return [
        *table(["training", *columns], rows),
        "",
        f"MFU counts real characters, against {', '.join(sorted(sources))}.",
    ]


def sampling_table(found: dict[str, Any]) -> list[str]:
    """Sampling speed."""
    rows = []
    for part, figures in found.items():
        if figures["official"] is not None:
            rate = figures["official"]["characters_per_second"]
            rows.append([f"{part}: PyTorch, official way", "1", f"{rate:.0f}", "1.0"])
        for batch, row in figures["batches"].items():
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
            rows.append([f"{part}: notagen-jax", batch, f"{row['characters_per_second']:.0f}", ratio])
    return table(["sampling", "batch", "chars/s", "× official"], rows)


def main() -> None:
    """Entry point: exit 1 with one message on a mendable error."""
    try:
        run(tyro.cli(GpuReport, prog="python -m eval.gpu_report", description=__doc__))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
