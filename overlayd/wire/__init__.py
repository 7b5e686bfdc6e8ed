"""Messages: JSON codec of the model, feed, store values and CNI. Pure: bytes in, values out."""
