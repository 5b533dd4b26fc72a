"""The command line: entry points, help, processes and sweeps."""
