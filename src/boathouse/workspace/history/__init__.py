"The runs of a target, stored in a database."
