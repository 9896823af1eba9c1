"One attempt of a task: its specification, session and log."
