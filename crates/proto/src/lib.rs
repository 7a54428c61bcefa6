//! Code generated from proto/ and its conversions to the vocabulary.
