"Run a notebook as a task."
