"""Scripted brokers at the far ends of a lane's sockets."""
