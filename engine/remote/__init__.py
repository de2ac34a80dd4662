"""Remote: models that a server holds, through nnsight and NDIF's protocol."""
