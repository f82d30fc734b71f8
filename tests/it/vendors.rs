//! Clients of vendors against the sandbox's fakes of them, over the real protocols.

mod meter;
mod oidc;
mod smtp;
