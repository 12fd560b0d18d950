"""`make bench`: what serving costs, measured on this machine in one run; docs/benchmarks.md says how to read it."""
