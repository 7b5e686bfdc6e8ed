"""Messages as JSON: records of the model, the feed, credentials and problem documents. Pure: bytes in, values out.

Agents, controllers and the store share these forms. A field that an older release does not know is ignored by it, and
preserved where it writes. Untrusted input becomes a value of the model here, or an error that names the field.
"""
