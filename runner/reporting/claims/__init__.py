"""Tests a sweep's claims against the results of its runs."""
