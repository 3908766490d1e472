"""The settings of a broker: the schema, and how values are combined. Pure."""
