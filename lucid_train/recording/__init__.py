"""A run as lines of JSON: written, read, replayed and followed."""
