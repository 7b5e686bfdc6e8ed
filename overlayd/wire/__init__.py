"""Messages as JSON: records of the model, the feed, CNI requests and results. Pure: bytes in, values out."""
