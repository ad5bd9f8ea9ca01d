"""The rows of `op_table`, one file per family of operations."""
