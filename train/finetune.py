"""Fine-tune NotaGen: `python -m train.finetune large --init CHECKPOINT …` (paper section 3.3)."""

from train.command import main
from train.configs import FINETUNE
from train.likelihood import train_on_pieces

if __name__ == "__main__":
    main(FINETUNE, train_on_pieces, "Fine-tune NotaGen on labelled pieces in built data sets.")
