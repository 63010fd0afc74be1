"""The answer as one HTML file that opens from disk: charts, table, every run, no network."""
