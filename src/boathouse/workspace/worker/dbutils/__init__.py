"`dbutils` in tasks."
