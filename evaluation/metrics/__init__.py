"""What the published benchmarks measure, computed as the field computes it, from answers and truth alone."""
