"The graph of a job's tasks as a state machine that does no work itself."
