//! What messages of one error have in common: the words, without ids, numbers and quoted values.

/// Longer words with a digit in them are ids, whole; shorter ones keep their letters.
const WORD_MAX: usize = 16;
/// Characters of a signature.
const SIGNATURE_MAX: usize = 160;

/// Characters of a message that are looked at.
const MESSAGE_MAX: usize = 500;

/// A message with what differs from job to job left out: `#` stands for numbers and ids, `"…"` for what was quoted.
#[must_use]
pub fn signature(message: &str) -> String {
    let end = message.char_indices().nth(MESSAGE_MAX).map_or(message.len(), |(end, _)| end);
    let mut text = String::with_capacity(end);
    let mut rest = &message[..end];
    while let Some(first) = rest.chars().next() {
        if first == '"'
            && let Some((_, after)) = rest[1..].split_once('"')
        {
            text.push_str("\"…\"");
            rest = after;
            continue;
        }
        let end = rest.find(|letter: char| !is_of_word(letter)).unwrap_or(rest.len());
        if end == 0 {
            text.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        push_word(&mut text, &rest[..end]);
        rest = &rest[end..];
    }
    text.chars().take(SIGNATURE_MAX).collect()
}

/// What all messages of a signature begin with: what stands before the first thing that was left out.
pub(crate) fn words_of(signature: &str) -> &str {
    signature.split(['#', '"']).next().unwrap_or_default()
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

fn push_word(text: &mut String, word: &str) {
    if !word.contains(|letter: char| letter.is_ascii_digit()) {
        text.push_str(word);
        return;
    }
    if word.len() >= WORD_MAX {
        text.push('#');
        return;
    }
    let mut in_number = false;
    for letter in word.chars() {
        let is_digit = letter.is_ascii_digit();
        if !is_digit {
            text.push(letter);
        } else if !in_number {
            text.push('#');
        }
        in_number = is_digit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ids_and_quoted_values_make_no_difference() {
        for (message, expected) in [
            ("the receiver answered 503", "the receiver answered #"),
            ("job_01h2xcejqtf2nbrexx3vqjhp41 is gone", "# is gone"),
            ("no row 018bcfe5-6800-7000-8000-000000000000!", "no row #!"),
            ("profile \"anna.b\" of \"tiktok\" not found", "profile \"…\" of \"…\" not found"),
            ("took 12.5s (limit 10s)", "took #.#s (limit #s)"),
            ("an open \" quote", "an open \" quote"),
            ("", ""),
            ("größer als 5 €", "größer als # €"),
        ] {
            assert_eq!(signature(message), expected);
        }
    }

    #[test]
    fn messages_begin_with_the_words_of_their_signature() {
        for message in
            ["the receiver answered 503", "job_01h2xcejqtf2nbrexx3vqjhp41 is gone", "abc12 \"x\"", "# \" #"]
        {
            let signature = signature(message);
            assert!(message.starts_with(words_of(&signature)), "{message}");
        }
        assert_eq!(words_of("the receiver answered #"), "the receiver answered ");
    }

    #[test]
    fn a_signature_is_short() {
        assert_eq!(signature(&"é ".repeat(1_000)).chars().count(), SIGNATURE_MAX);
    }
}
