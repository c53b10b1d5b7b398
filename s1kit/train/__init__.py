"""Fine-tune a base on samples. `train.train` is the stage, `train.train_samples` the call without a run."""
