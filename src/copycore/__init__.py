"""The Cython core: bytes in, bytes out. No Kafka client, no clock, no logging, no policy.

These exist for tests and benchmarks only, which see through them what the lane does in C:

- ``batch.rewrite_slice``, ``Batch.rewritten_header``
- ``crc32c.combine``, ``shift`` and ``table_crc32c``
- ``frames.encode_produce`` and ``decode_produce``
- ``partitioner.choose_all`` and ``hash_key``
- ``records.decode_records``, ``encode_records``, ``encode_batches`` and ``rewrite_records``
- ``retrace.retraced``
- ``Lane.idle``, ``Pipe.partitions`` and ``Pipe.borrowed_bytes``
"""
