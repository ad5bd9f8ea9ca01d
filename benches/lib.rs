//! Named workloads shared by the benchmarks of corten.
