"The runs of a target, kept in a database."
