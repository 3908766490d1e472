"""The settings of a broker: the schema, how sources are combined, what a reload may change. Pure."""
