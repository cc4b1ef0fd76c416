"""State kept on the clusters themselves, in compacted topics: no database, no local files.

``copystream-registry.internal`` (target): producer ids of flows, sessions and their claims.
``copystream-offset-map.internal`` (target): bindings and map segments, written ahead of the data.
"""

REGISTRY_TOPIC = "copystream-registry.internal"
OFFSET_MAP_TOPIC = "copystream-offset-map.internal"
