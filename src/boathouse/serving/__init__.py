"A model's way into service and out of it."
