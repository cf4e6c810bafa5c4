"""The contenders of the peers table. Each module is one library; `worker` runs it in a process of its own."""
