"""The whole machine-learning lifecycle of a Databricks lakehouse on one machine, from the same bundle that deploys

Modules:

- `src.boathouse.workspace.dialect`: Two things that a session here understands beyond Spark's own: catalogs that are other names of its one catalog, and `USE CATALOG`.
- `src.boathouse.workspace.graph`: The state machine of a job run: events in, decisions out. It does no work, reads no clock and keeps nothing.
- `src.boathouse.workspace.plugins`: Commands that installed packages bring: an entry point of the group `boathouse.commands`, named as the command.
- `src.boathouse.workspace.references`: `{{...}}` references: what the Jobs service fills in when a task starts. Text substitution; no expressions.
- `src.boathouse.workspace.sdk`: The Jobs API's dataclasses, without the second that the rest of the SDK takes to import.
- `src.boathouse.workspace.yamlfile`: YAML and JSON files whose every node knows the file, line and column it was written at.
- `src.boathouse.workspace.zygote`: The parent of all task processes: imports the heavy libraries once, then forks per task, and outlives none of them."""
