//! Whole log lines, in either format.

use std::borrow::Cow;

use serde_json::Value;

use super::{MASK, patterns};

/// Stands in place of a line that could not be made safe, which takes a fault in the formatter.
const UNREADABLE: &str = r#"{"level":"ERROR","message":"a log line was left out: it was no JSON, and held what looked like a secret"}"#;

/// A JSON line as it may be written: still JSON, still one line.
#[must_use]
pub fn json_line(line: &str) -> Cow<'_, str> {
    if !patterns::is_suspicious(line) {
        return Cow::Borrowed(line);
    }
    let (object, end) = match line.strip_suffix('\n') {
        Some(object) => (object, "\n"),
        None => (line, ""),
    };
    let Ok(mut value) = serde_json::from_str::<Value>(object) else {
        return Cow::Owned(format!("{UNREADABLE}{end}"));
    };
    clean(&mut value);
    Cow::Owned(format!("{value}{end}"))
}

/// Takes out of a JSON value what nobody should read.
pub(crate) fn clean(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(changed) = patterns::redact(text) {
                *text = changed;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    // The fencing token of a lease is a number, and so are counts.
                    Value::Null | Value::Bool(_) | Value::Number(_) => {}
                    _ if patterns::is_secret(name) => *value = Value::from(MASK),
                    _ => clean(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text line as it may be written: still one line.
#[must_use]
pub fn text_line(line: &str) -> Cow<'_, str> {
    let body = line.strip_suffix('\n').unwrap_or(line);
    let end = &line[body.len()..];
    let clean = patterns::redact(body);
    if matches!(clean, Cow::Borrowed(_)) && !may_break_lines(body) {
        return Cow::Borrowed(line);
    }
    let mut flat = String::with_capacity(line.len() + 16);
    for character in clean.chars() {
        match character {
            '\n' => flat.push_str("\\n"),
            '\r' => flat.push_str("\\r"),
            other if breaks_lines(other) => flat.extend(other.escape_unicode()),
            other => flat.push(other),
        }
    }
    flat.push_str(end);
    Cow::Owned(flat)
}

/// Whether a look at every character is worth its time: most lines are plain.
fn may_break_lines(text: &str) -> bool {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) || matches!(byte, b'\t' | 0x1b);
    !text.bytes().all(plain) && text.contains(breaks_lines)
}

/// Whether a terminal or a reader of lines may take it for more than a letter. Colours are the formatter's own: it escapes
/// those that come in values.
fn breaks_lines(character: char) -> bool {
    match character {
        '\t' | '\u{1b}' => false,
        '\u{2028}' | '\u{2029}' => true,
        other => other.is_control(),
    }
}
