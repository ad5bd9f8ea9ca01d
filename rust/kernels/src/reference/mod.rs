//! The naive twin of every kernel, same names and signatures: plain loops that anyone can read; oracle of the tests.
