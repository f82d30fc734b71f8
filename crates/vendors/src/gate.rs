//! Permission for single tries of a call, given by whoever keeps count of them.

use std::{error::Error, fmt, pin::Pin};

/// Asked before every try of a call, quick retries included.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Waits for the permission to make one try.
    fn pass(&self) -> Passing<'_>;
}

/// The wait for a permission.
pub type Passing<'a> = Pin<Box<dyn Future<Output = Result<Pass, Refused>> + Send + 'a>>;
/// Kept while the try lasts.
pub type Pass = Box<dyn Send>;
/// Why there is no permission, for whoever set the gate up.
pub type Refused = Box<dyn Error + Send + Sync>;
