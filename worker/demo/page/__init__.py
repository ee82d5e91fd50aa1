"""The page the demo ends with: the month as plots and tables, drawn from the database's rows."""
