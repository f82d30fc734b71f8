//! Reading a message as a mail program does: headers unfolded, encoded words and text decoded (RFC 5322, 2045, 2047).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// What a person would see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decoded {
    pub(super) message_id: Option<String>,
    pub(super) subject: Option<String>,
    /// In the message's order, names as written.
    pub(super) headers: Vec<(String, String)>,
    /// Of a message of one part; of others as it is.
    pub(super) text: String,
}

impl Decoded {
    pub(super) fn of(message: &[u8]) -> Self {
        let message = String::from_utf8_lossy(message);
        let (head, body) = match message.strip_prefix("\r\n") {
            Some(body) => ("", body),
            None => message.split_once("\r\n\r\n").unwrap_or((&message, "")),
        };
        let headers = headers(head);
        let find = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        let encoding = find("Content-Transfer-Encoding").unwrap_or_default().to_ascii_lowercase();
        let text = match encoding.as_str() {
            "quoted-printable" => text_of(quoted_printable(body)),
            "base64" => {
                let packed: String = body.split_ascii_whitespace().collect();
                STANDARD.decode(packed).map_or_else(|_| body.to_owned(), text_of)
            }
            _ => body.to_owned(),
        };
        Self { message_id: find("Message-ID"), subject: find("Subject"), headers, text }
    }
}

fn headers(head: &str) -> Vec<(String, String)> {
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = unfolded.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), words(value.trim()))).collect()
}

/// The text with its encoded words, `=?utf-8?b?…?=`, in clear. Space between two of them is not part of it.
fn words(value: &str) -> String {
    let mut text = String::new();
    let mut after_encoded = false;
    for word in value.split(' ') {
        let encoded = encoded_word(word);
        let are_one = after_encoded && encoded.is_some();
        if !text.is_empty() && !are_one {
            text.push(' ');
        }
        after_encoded = encoded.is_some();
        text.push_str(encoded.as_deref().unwrap_or(word));
    }
    text
}

fn encoded_word(word: &str) -> Option<String> {
    let mut parts = word.strip_prefix("=?")?.strip_suffix("?=")?.splitn(3, '?');
    let (charset, encoding, packed) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let bytes = match encoding {
        "b" | "B" => STANDARD.decode(packed).ok()?,
        "q" | "Q" => quoted_printable(&packed.replace('_', " ")),
        _ => return None,
    };
    Some(text_of(bytes))
}

/// What is no valid escape stays as it is.
fn quoted_printable(text: &str) -> Vec<u8> {
    let text = text.replace("=\r\n", "");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'=').then(|| after.get(..2)).flatten();
        let byte = escaped
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    bytes
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_as_its_reader_sees_it() {
        let message = "Subject: =?utf-8?b?xJDhurd0?= =?utf-8?q?_l=E1=BA=A1i?= now\r\nMessage-ID:\r\n <1@x>\r\n\
                       Content-Transfer-Encoding: quoted-printable\r\n\r\nM=E1=BA=ADt =\r\nkh=E1=BA=A9u\r\n";
        let decoded = Decoded::of(message.as_bytes());
        assert_eq!(decoded.subject.as_deref(), Some("Đặt lại now"));
        assert_eq!(decoded.message_id.as_deref(), Some("<1@x>"));
        assert_eq!(decoded.text, "Mật khẩu\r\n");
    }

    #[test]
    fn what_is_not_well_formed_is_shown_as_it_is() {
        for (text, shown) in [("=zz 100%=", "=zz 100%="), ("a=3D", "a="), ("=", "=")] {
            assert_eq!(String::from_utf8(quoted_printable(text)).unwrap(), shown);
        }
        assert_eq!(words("=?koi8-r?b?xx?= =?utf-8?b?!!?="), "=?koi8-r?b?xx?= =?utf-8?b?!!?=");
        assert_eq!(Decoded::of(b"\r\nbody").text, "body");
        assert_eq!(Decoded::of(b"").headers, []);
    }
}
