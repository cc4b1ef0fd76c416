"""What would be copied: topics, partitions, offsets, conflicts. Only ``creation`` writes."""
