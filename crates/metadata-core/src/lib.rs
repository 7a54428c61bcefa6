//! The rules of the cluster's metadata: facts, image, decisions.
