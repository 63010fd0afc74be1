"""Runs of a sweep in other processes and on other machines."""
