"Write the modules that the notebooks of this folder export, and no other file: `nbdev-export` would take `src` for a package, and put an index into it."

from nbdev.doclinks import nbglob
from nbdev.export import nb_export

if __name__ == "__main__":
    for notebook in nbglob():
        nb_export(notebook)
