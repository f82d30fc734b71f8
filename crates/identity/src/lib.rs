//! People: accounts, passwords, sessions, roles.
