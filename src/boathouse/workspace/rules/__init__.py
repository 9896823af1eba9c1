"""The rules of `boathouse validate`, one module a subject; `catalogue` lists them all."""
