"""The answer as one HTML file that works offline: charts, table, every run."""
