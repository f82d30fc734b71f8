//! Whom to write to at a partner. Stored sealed, as all contact details are.

use std::fmt;

use kernel::Email;
use kernel::sealing::{Keyring, SealContext};
use uuid::Uuid;

use crate::error::{FieldFault, PartnerError};

/// Longest name of a person.
pub const NAME_CHARS_MAX: usize = 200;
/// Longest telephone number, with what people write between its digits.
pub const PHONE_CHARS_MAX: usize = 40;

/// Whom to write to at a partner.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// A person's name.
    pub name: Option<String>,
    /// Where onboarding and notices go.
    pub email: Option<Email>,
    /// A telephone number, as people write it.
    pub phone: Option<String>,
}

impl fmt::Debug for Contact {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Contact(…)")
    }
}

impl Contact {
    /// What is wrong with it.
    pub(crate) fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        let is_line = |text: &str, chars_max: usize| {
            (1..=chars_max).contains(&text.trim().chars().count()) && !text.chars().any(char::is_control)
        };
        if self.name.as_ref().is_some_and(|name| !is_line(name, NAME_CHARS_MAX)) {
            let message = format!("1 to {NAME_CHARS_MAX} characters on one line");
            faults.push(FieldFault { field: "contactName", message });
        }
        let is_dialled = |letter: char| letter.is_ascii_digit() || " +-.()/".contains(letter);
        let is_phone = |phone: &str| {
            is_line(phone, PHONE_CHARS_MAX)
                && phone.chars().all(is_dialled)
                && phone.chars().any(|letter| letter.is_ascii_digit())
        };
        if self.phone.as_ref().is_some_and(|phone| !is_phone(phone)) {
            let message =
                format!("a telephone number of at most {PHONE_CHARS_MAX} digits and +-.()/ between them");
            faults.push(FieldFault { field: "contactPhone", message });
        }
        faults
    }
}

/// A contact as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealedContact {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) email: Option<Vec<u8>>,
    pub(crate) phone: Option<Vec<u8>>,
}

impl SealedContact {
    pub(crate) fn of(contact: &Contact, keyring: &Keyring, partner: Uuid) -> Self {
        let seal = |value: Option<&str>, column| {
            value.map(|value| keyring.seal(value.trim().as_bytes(), &sealed_in(column, partner)))
        };
        Self {
            name: seal(contact.name.as_deref(), "contact_name"),
            email: seal(contact.email.as_ref().map(Email::as_str), "contact_email"),
            phone: seal(contact.phone.as_deref(), "contact_phone"),
        }
    }

    pub(crate) fn open(&self, keyring: &Keyring, partner: Uuid) -> Result<Contact, PartnerError> {
        let open = |sealed: &Option<Vec<u8>>, column| {
            let opened = sealed.as_ref().map(|sealed| keyring.open(sealed, &sealed_in(column, partner)));
            let text = opened.transpose()?.map(String::from_utf8).transpose();
            text.map_err(|_| PartnerError::Damaged("contact"))
        };
        let email = open(&self.email, "contact_email")?;
        let email = email.map(|email| Email::parse(&email)).transpose();
        Ok(Contact {
            name: open(&self.name, "contact_name")?,
            email: email.map_err(|_| PartnerError::Damaged("contact"))?,
            phone: open(&self.phone, "contact_phone")?,
        })
    }
}

fn sealed_in(column: &'static str, partner: Uuid) -> SealContext {
    SealContext { table: "partners", column, owner: partner, row: partner }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(name: &str, phone: &str) -> Contact {
        Contact { name: Some(name.to_owned()), email: None, phone: Some(phone.to_owned()) }
    }

    #[test]
    fn a_contact_comes_back_as_it_was_and_only_in_its_own_row() {
        let (keyring, row) = (Keyring::generate(), Uuid::now_v7());
        let email = Some(Email::parse("lan@example.com").unwrap());
        let whole = Contact { email, ..contact("Nguyễn Thị Lan", "+84 (24) 3944-6368") };
        assert!(whole.faults().is_empty());
        let sealed = SealedContact::of(&whole, &keyring, row);
        assert_eq!(sealed.open(&keyring, row).unwrap(), whole);
        assert!(sealed.open(&keyring, Uuid::now_v7()).is_err());
        assert_eq!(format!("{whole:?}"), "Contact(…)");
    }

    #[test]
    fn every_fault_of_a_contact_is_told() {
        let wrong = |contact: Contact| contact.faults().iter().map(|fault| fault.field).collect::<Vec<_>>();
        assert_eq!(wrong(contact("", "call me")), ["contactName", "contactPhone"]);
        assert_eq!(wrong(contact("two\nlines", "+")), ["contactName", "contactPhone"]);
        assert_eq!(wrong(contact("Lan", &"1".repeat(PHONE_CHARS_MAX + 1))), ["contactPhone"]);
        assert_eq!(wrong(Contact::default()), [""; 0]);
    }
}
