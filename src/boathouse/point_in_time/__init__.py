"Joins that look back in time: for each row, what was known at its moment."
