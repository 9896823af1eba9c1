"Rules about rows and tables, the quarantine of rows that break them, and the report on both."
