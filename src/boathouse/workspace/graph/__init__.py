"The graph of a job's tasks as a state machine, without doing any work."
