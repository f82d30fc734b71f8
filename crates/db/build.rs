//! Recompiles the crate when a migration is added: `sqlx::migrate!` reads the folder at compile time only.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
