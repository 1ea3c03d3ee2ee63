"""The public datasets, a loader each, all giving `DrivingSample`; `registry` lists them. May read `reasoning`."""
