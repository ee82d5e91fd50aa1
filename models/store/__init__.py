"""Every SQL statement, one intention a function; one module for each noun."""
