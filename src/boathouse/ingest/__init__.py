"Files that land in a folder become rows of a bronze table, each file once."
