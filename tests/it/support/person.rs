//! A person with a session, made the way admins make one.

use audit::Actor;
use identity::{Email, NewPerson, Password, Passwords, Role, Session, SessionKind, open_session};
use jobs::{Door, people};
use kernel::ids::UserId;
use kernel::sealing::Keyring;
use reqwest::RequestBuilder;

use super::{TestDb, keyring};

/// A person and what lets them in.
pub struct TestPerson {
    /// Their id.
    pub id: UserId,
    /// Their address.
    pub email: String,
    /// Their bearer token.
    pub token: String,
    /// Their browser's cookie.
    pub cookie: String,
}

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery";

impl TestPerson {
    /// Somebody of this role with a password, a token and a cookie.
    pub async fn create(db: &TestDb, role: Role) -> Self {
        Self::named(db, role, &format!("{role}@example.com")).await
    }

    /// Somebody with this address.
    pub async fn named(db: &TestDb, role: Role, email: &str) -> Self {
        let keyring = keyring();
        let hash = Passwords::new(1).hash(Password::chosen(PASSWORD).unwrap()).await.unwrap();
        let mut tx = db::begin(db.pool()).await.unwrap();
        let new = NewPerson { email: Email::parse(email).unwrap(), role, password: Some(hash) };
        let person = people::create(&mut tx, &operator_door(&keyring), new).await.unwrap();
        let mut open = async |kind| {
            let opened = open_session(&mut tx, person.id, kind).await.unwrap();
            opened.secret.expose().to_owned()
        };
        let (token, cookie) = (open(SessionKind::Token).await, open(SessionKind::Cookie).await);
        tx.commit().await.unwrap();
        Self { id: person.id, email: email.to_owned(), token, cookie }
    }

    /// The request with this person's token.
    pub fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.token)
    }

    /// The request as this person's browser sends it from our own page.
    pub fn browse(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .header("cookie", format!("{}={}", api::extract::person::COOKIE, self.cookie))
            .header("sec-fetch-site", "same-origin")
    }
}

/// Whoever may run commands.
pub fn operator_door(keyring: &Keyring) -> Door<'_> {
    Door { actor: Actor::Cli("tests".to_owned()), request_id: None, keyring }
}

/// Who holds a token, as the API finds out.
pub async fn session_of(db: &TestDb, token: &str) -> Option<Session> {
    let mut conn = db.pool().acquire().await.unwrap();
    identity::authenticate(&mut conn, SessionKind::Token, token).await.unwrap()
}
