"Drift and quality over time, and the decision to retrain."
