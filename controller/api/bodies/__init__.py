"""The JSON that requests and responses carry, as the OpenAPI document shows it.

Pydantic models and their conversion to and from the model stay in this room: no other package sees them.
"""
