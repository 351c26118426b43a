"""The operator's accounts with vendors, open: one for each credential, with deployments, login and connections."""
