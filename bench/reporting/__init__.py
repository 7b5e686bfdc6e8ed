"""Reports of benchmarks: cases, budgets, and the tables of bench/README.md and README.md.

Nothing here measures; a benchmark builds its report with it, and `make bench-table` writes the pages from reports.
"""
