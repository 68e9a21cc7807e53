"""Figures of a report: each function draws what it is given, and reads and counts nothing."""
