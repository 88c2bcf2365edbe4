"""Post-train NotaGen: `python -m train.posttrain large --init CHECKPOINT …` (the stage of NotaGen-X)."""

from train.command import main
from train.configs import POSTTRAIN
from train.likelihood import train_on_pieces

if __name__ == "__main__":
    main(POSTTRAIN, train_on_pieces, "Post-train NotaGen on a classical subset of the pre-training pieces.")
