"""Post-train NotaGen on classical pieces: `python -m train.posttrain large --init PRETRAINED …`.

The stage that NotaGen-X has between pre-training and fine-tuning.
"""

from train.command import main
from train.configs import POSTTRAIN
from train.likelihood import train_on_pieces

if __name__ == "__main__":
    main(POSTTRAIN, train_on_pieces, "Post-train NotaGen on classical pieces in built data sets.")
