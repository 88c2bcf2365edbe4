"""The training stages: `python -m train.pretrain`, `python -m train.finetune`, on one loop."""
