//! One trait over `std::arch`; CPU detection once; vector math with stated ULP.
