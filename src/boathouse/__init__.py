"The machine-learning lifecycle of a lakehouse: tables, quality, features, training, gates, scoring, monitoring."
