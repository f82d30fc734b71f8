//! Schedules: their ticks become jobs, each once, whoever and however many look.

mod changing;
mod commands;
mod declaring;
mod stage;
mod ticking;
