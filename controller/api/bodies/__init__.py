"""The JSON that requests and responses carry, as the OpenAPI document shows it, and its way to and from the model."""
