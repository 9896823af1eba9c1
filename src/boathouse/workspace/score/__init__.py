"Score a project by a rubric: each of its tests earns points by evidence that the suite, runs, tables and documents have recorded."
