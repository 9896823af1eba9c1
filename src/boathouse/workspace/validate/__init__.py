"The rules of `boathouse validate`, one module a subject; `problems` lists them all."
