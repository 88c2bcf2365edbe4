"""Pre-train NotaGen: `python -m train.pretrain mini --data.sources FOLDER…` (paper section 3.2)."""

from train.command import main
from train.configs import PRETRAIN
from train.likelihood import train_on_pieces

if __name__ == "__main__":
    main(PRETRAIN, train_on_pieces, "Pre-train NotaGen on built data sets.")
