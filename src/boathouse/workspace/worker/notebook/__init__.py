"A notebook run as a task."
