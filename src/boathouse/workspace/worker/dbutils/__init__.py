"Provide `dbutils` to tasks."
