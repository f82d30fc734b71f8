//! Welcoming a new partner: a mail that says how to call, with a link under which the key is shown, once. The key
//! itself lies in no mailbox.

use std::time::Duration;

use ::partners::{Created, PartnerError, directory, reveals};
use audit::Actor;
use db::Connection;
use kernel::{ids::JobId, sealing::Keyring};
use serde_json::json;

use super::actions::{PartnerActionError, record};
use super::telling::mail_to_contact;
use crate::{Deed, Door};

/// How long the link of an onboarding mail works.
pub const CODE_LIFE: Duration = reveals::LIFE;

/// Stores the mail that welcomes a partner just made, in the transaction in which it was made; none without an address.
/// Wake [`queue::Queue::Maintenance`] after the commit.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn welcome(
    conn: &mut Connection,
    door: &Door<'_>,
    created: &Created,
    public_url: &str,
) -> Result<Option<JobId>, PartnerActionError> {
    let partner = &created.partner;
    if partner.contact(door.keyring)?.email.is_none() {
        return Ok(None);
    }
    let code = reveals::leave(conn, door.keyring, partner.id, &created.key).await?;
    let days = CODE_LIFE.as_secs() / (24 * 60 * 60);
    let (name, id) = (&partner.name, &partner.code);
    let text = format!(
        "{name} can use Millpond now.\n\n\
         Your partner id, for the header X-Partner-ID:\n\n    {id}\n\n\
         Your API key, for the header X-API-Key, is shown once, within {days} days, at\n\n    \
         {public_url}/welcome#{code}\n\n\
         How to call: {public_url}/api-docs/\n\n\
         If the link does not work any more, ask whoever looks after you for another key.\n"
    );
    let letter = ("onboarding", "Welcome to Millpond".to_owned(), text);
    Ok(mail_to_contact(conn, door, partner, letter).await?)
}

/// A key that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// Whose, as in `X-Partner-ID`.
    pub code: String,
    /// The key. Do not log it.
    pub api_key: String,
}

/// Shows the key of an onboarding mail's code, which works no more then; none when it never did, or no more.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn reveal_key(
    conn: &mut Connection,
    keyring: &Keyring,
    code: &str,
    request_id: Option<String>,
) -> Result<Option<ShownKey>, PartnerActionError> {
    let Some(revealed) = reveals::fetch(conn, keyring, code).await? else { return Ok(None) };
    let partner = directory::find_by_code_or_id(conn, &revealed.partner.to_string()).await?;
    let partner = partner.ok_or(PartnerError::NotFound("partner"))?;
    let door = Door { actor: Actor::System("onboarding"), request_id, keyring };
    let deed = Deed { before: None, after: Some(json!({ "keyId": revealed.key })) };
    record(conn, &door, "partners.reveal_key", partner.id, deed).await?;
    Ok(Some(ShownKey { code: partner.code, api_key: revealed.api_key }))
}
