//! Single sign-on as this process knows it.

use jobs::people::Newcomers;
use vendors::oidc::Oidc;

/// The provider, and what becomes of people whom nobody here knows.
#[derive(Debug, Clone)]
pub struct SingleSignOn {
    /// Whom to ask. With its code exchange the API makes its one kind of outgoing call.
    pub provider: Oidc,
    /// Who may come in unknown.
    pub newcomers: Newcomers,
}
