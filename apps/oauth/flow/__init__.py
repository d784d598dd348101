"""One attempt to log in, from the QQ button to its end."""
