"The processes in which tasks run."
