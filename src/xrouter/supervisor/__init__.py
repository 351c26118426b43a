"""Runs the application: one process, or several under a supervisor; signals, drain and restarts."""
