//! The seams to the machine: clock, randomness and files, real and simulated.
