"""What is told of a copy: plan, snapshot, summary and faults, and how a copy ended."""
