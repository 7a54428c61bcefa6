//! The controller service: the cluster's single source of truth.
