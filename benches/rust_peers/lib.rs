//! Holds nothing: a package needs something to build, and this one has only a benchmark.
