//! The controller quorum: our Raft log and state store under openraft.
