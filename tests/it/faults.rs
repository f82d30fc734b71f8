//! Real processes, killed and misled: nothing accepted is lost, and nothing happens twice under two names.

mod fleet;
mod killed_schedulers;
mod killed_up;
mod killed_workers;
mod misbehaving_vendor;
mod processes_apart;
mod restored;
mod thousand_requests;
mod under_fire;
