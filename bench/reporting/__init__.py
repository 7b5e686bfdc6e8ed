"""What benchmarks say: their cases and budgets, and the tables of bench/README.md and README.md."""
