"Registered models: promotions, the manifest of what a model was made of, reproduction."
