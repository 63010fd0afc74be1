"""What the store's earlier runs have measured, for plans: data points, fitted efficiencies."""
