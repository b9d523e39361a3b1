"""Callbacks that send a run to an experiment tracker, and what they are built on."""
