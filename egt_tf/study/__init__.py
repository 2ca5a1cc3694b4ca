"""Grids of trainings that are compared with each other: running them, paired statistics, reports."""
