"""Measurements of earlier runs in the store, for plans: data points, fitted efficiencies."""
