"""The benchmarks: questions to ask and answers to score, a module each; `registry` lists them. May read `metrics`."""
