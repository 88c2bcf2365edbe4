"""The last policy of a CLaMP-DPO run becomes the packaged model, if the second judge agrees.

    python -m eval.table2 RUN --second-judge judges/second
    python -m eval.adopt RUN

The policy goes to `packaged/mini` and the model that the run started from to `packaged/mini-finetuned`,
both in bfloat16, so that the run can be repeated from there (`--checkpoint mini-finetuned`). The model
card gets the table.
"""

import dataclasses
import shutil
import sys
from importlib import resources
from pathlib import Path

import tyro

from eval.table2_measures import FOLDER
from eval.table2_verdict import SECOND_JUDGE
from notagen_jax import checkpoints
from notagen_jax.checkpoints import FINETUNED, PACKAGED
from notagen_jax.checkpoints.directory import write_directory
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_json, read_text, write_atomic

CARD = "MODEL_CARD.md"
SECTION = "\n## CLaMP-DPO\n"
"""Head of the part of the card that this command writes, the last one."""


@dataclasses.dataclass(frozen=True)
class Adopt:
    """Package the last policy of a run that the second judge agrees with."""

    run: tyro.conf.Positional[Path]
    """Folder of a run of `python -m train.clamp_dpo` with its table (`python -m eval.table2`)."""
    packaged: Path = Path(str(resources.files("notagen_jax") / "packaged"))
    """Folder of the packaged models."""


def run(options: Adopt) -> Path:
    """Replace the packaged model; returns its folder.

    Raises `NotaGenError` when there is no table, the second judge does not agree, or the weights
    cannot be read; then nothing is changed.
    """
    remedy = "run `python -m eval.table2 RUN --second-judge JUDGE` first"
    table = read_json(options.run / FOLDER / "table2.json", remedy)
    run_remedy = "give the folder of a run of `python -m train.clamp_dpo`"
    settings = read_json(options.run / "settings.json", run_remedy)
    asked = [claim for claim in table["claims"] if claim["name"] == SECOND_JUDGE]
    if not asked:
        raise NotaGenError(f"{options.run}: its table has no second judge; {remedy}")
    if not asked[0]["holds"]:
        raise NotaGenError(
            f"{options.run}: the second judge does not agree ({asked[0]['figures']}); nothing is changed"
        )
    last = len(table["rows"]) - 2
    before = checkpoints.open_stored(settings["checkpoint"])
    after = checkpoints.open_stored(options.run / f"iteration-{last}" / "policy")
    target, kept = options.packaged / PACKAGED, options.packaged / FINETUNED
    card = target / CARD
    text = read_text(card, "give the folder of the packaged models") if card.is_file() else f"# {PACKAGED}\n"
    if before.source.absolute() != kept.absolute():
        write_directory(kept, before, dtype="bfloat16", force=True)
        if card.is_file():
            shutil.copyfile(card, kept / CARD)
    write_directory(target, after, dtype="bfloat16", force=True)
    page = read_text(options.run / FOLDER / "table2.md", remedy)
    text = text.split(SECTION)[0]
    write_atomic(
        card, f"{text}{SECTION}\n{last} iteration{'s' if last > 1 else ''} from `{FINETUNED}`.\n\n{page}"
    )
    return target


def main() -> None:
    """Run and exit: 1 with one message on a mendable error."""
    try:
        place = run(tyro.cli(Adopt, prog="python -m eval.adopt", description=__doc__))
        print(f"{place}: the last policy is the packaged model now; read its {CARD}")
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
