"""What RichLogger is made of: figures, lines of text, and the three places where they are shown."""
