"""Verbs beside the engine: demo, doctor, report, calibrate, dedupe, complaints.

May import: everything. Nothing imports it but benchmarks, experiments and dev scripts.
"""
