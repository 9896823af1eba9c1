"The rules of `boathouse validate`, one module per subject; `problems` lists them all."
