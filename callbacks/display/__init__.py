"""What RichLogger is made of: what is shown, and where."""
