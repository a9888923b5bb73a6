"""The report of finished runs: figures, tables and films on one page."""
