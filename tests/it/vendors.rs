//! Clients of vendors against the sandbox's fakes of them, over real HTTP.

mod meter;
