"""The public datasets, a loader each, all giving `DrivingSample`; `format` lists them. May read `rendered`."""
