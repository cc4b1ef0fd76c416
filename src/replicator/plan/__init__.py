"""What would be copied: topics, partitions, offsets, conflicts; read-only but for creating topics."""
