"""What copycore does, done slowly and obviously, and data to compare them on."""
