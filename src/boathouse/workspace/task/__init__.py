"One attempt of a task: its specification, its session and its log."
