"""The shape of the paper's Table 2 for a CLaMP-DPO run: `python -m eval.table2 RUN`.

    python -m eval.table2 runs/clamp-dpo --second-judge judges/second

Prints the table and writes `table2.json`, `table2.md` and `table2.svg` into the run's folder. The
definitions stand in `eval.table2_measures`; under the table stands which of the paper's claims it bears
out (`eval.table2_verdict`).
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from eval.table2_measures import FOLDER, Measures, Row
from eval.table2_page import markdown, plot
from eval.table2_verdict import claims, lines
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from train.progress import say_to_stderr


@dataclasses.dataclass(frozen=True)
class Table2:
    """Measure every policy of a CLaMP-DPO run beside the ground truth."""

    run: tyro.conf.Positional[Path]
    """Folder of a run of `python -m train.clamp_dpo`."""
    second_judge: str = ""
    """A CLaMP 2 model that took no part in choosing; its scores stand beside the judge's."""
    label_model: str = ""
    """Model whose M3 features the label classifiers read; empty: the second judge, else the judge."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for table2.json, .md and .svg; by default `table2` in the run."""


def run(options: Table2) -> list[Row]:
    """Measure, print and write; returns the rows, the ground truth first.

    Raises `NotaGenError` when the folder holds no evaluated run.
    """
    enable_compilation_cache()
    measures = Measures(options.run, options.second_judge, options.label_model, say_to_stderr)
    if not measures.iterations:
        raise NotaGenError(f"{options.run}: nothing is evaluated yet; let `python -m train.clamp_dpo` go on")
    rows = [measures.ground_truth_row(), *(measures.row(k) for k in measures.iterations)]
    out = options.out or options.run / FOLDER
    names = {
        "judge": measures.settings["clamp2"],
        "second judge": measures.second_judge or None,
        "label model": measures.label_model,
        "seed": measures.settings["seed"],
    }
    claimed = claims(rows)
    found = {
        **names,
        "rows": [dataclasses.asdict(row) for row in rows],
        "claims": [claim._asdict() for claim in claimed],
    }
    page = markdown(rows, names) + (f"\n{lines(claimed)}" if claimed else "")
    write_atomic(out / "table2.json", json.dumps(found, indent=1) + "\n")
    write_atomic(out / "table2.md", page)
    write_atomic(out / "table2.svg", plot(rows))
    print(page)
    return rows


def main() -> None:
    """Run and exit: 1 with one message on a mendable error."""
    try:
        run(tyro.cli(Table2, prog="python -m eval.table2", description=__doc__))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
