"""The loop: who is called when, the data, and one fit from its start to its end."""
