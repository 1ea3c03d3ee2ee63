"""What an answer is worth: pure scorers. No ray, no sockets, no cache files; may read `data`."""
