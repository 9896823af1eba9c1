"Splits, the held-out set and the hyperparameter search."
