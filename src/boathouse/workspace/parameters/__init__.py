"References, parameters and loops of jobs and tasks."
