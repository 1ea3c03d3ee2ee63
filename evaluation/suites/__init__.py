"""The benchmarks: questions to ask and answers to score, a class each; `registry` lists them. May read `metrics`."""
