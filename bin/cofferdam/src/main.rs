//! The command line: what Docker, Podman and people call in place of runc.
fn main() {}
