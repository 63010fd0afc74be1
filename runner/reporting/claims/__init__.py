"""Decides the claims that a sweep states from what its runs found."""
