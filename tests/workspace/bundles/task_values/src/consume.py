"""Reads what the task before it said, in both ways there are."""

import sys

from databricks.sdk.runtime import dbutils

count, state, day = sys.argv[1:]
names = dbutils.jobs.taskValues.get(taskKey="produce", key="names", default={})
print(count, state, day, names["last"])
assert (count, state, names) == ("7", "success", {"first": "a", "last": "z"})
