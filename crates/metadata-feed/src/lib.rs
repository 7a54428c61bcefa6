//! Facts on the wire, and the image that follows them behind an atomic pointer.
