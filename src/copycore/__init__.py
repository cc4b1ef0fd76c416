"""The Cython core: bytes in, bytes out. No Kafka client, no clock, no logging, no policy."""
