//! What is looked for, and what is left of it.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Regex, RegexSet};

/// The beginning of a word, also right after the escape of a line's end in JSON.
const WORD: &str = r"(?:(?-u:\b)|\\[bfnrt])";
/// What part of a name makes its value a secret.
const SECRET_NAMES: &str = "passw(?:or)?d|passphrase|secret|token|authorization|api[_-]?key|cookie|private[_-]?key|credential|encryption[_.-]keys|dsn";
/// Between a name and its value: quotes and the colours of a terminal may stand there too.
const IS: &str = r#"(?:\\?["']|[ \t]|\x1b\[[0-9;]*m)*[:=](?:[ \t]|\x1b\[[0-9;]*m)*"#;
/// A value: quoted (perhaps in the words of `Debug` around it), two words of HTTP's, or up to the next separator.
const VALUE: &str = r#"(?:[A-Za-z_:&(\[{ ]*"(?:[^"\\]|\\.)*"|'[^']*'|(?:bearer|basic)[ \t]+[^ \t\r\n"',;]+|[^ \t\r\n"',;&}\])]+)"#;
/// In the parts of an e-mail address; what stands in both of `user@host` and an address' path is not.
const MAIL: &str = r#"[^\x00-\x20"'`<>()\[\]{},;:/\\@=|?&*]"#;

struct Rule {
    looks_like: Regex,
    becomes: &'static str,
}

/// A pattern, and what it becomes; `$1` is what stays.
fn rules() -> Vec<(String, &'static str)> {
    let mask = "[redacted]";
    vec![
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)".to_owned(), mask),
        // Before e-mail addresses, which the end of a password and a host look like.
        (r#"([A-Za-z][A-Za-z0-9+.-]*://[^ \t\r\n"'/?#:@]*:)[^ \t\r\n"'/?#]*@"#.to_owned(), "$1[redacted]@"),
        (format!(r#"(?i)([a-z0-9_.-]*cookie[a-z0-9_.-]*{IS})(?:"(?:[^"\\]|\\.)*"|[^"\r\n]+)"#), "$1[redacted]"),
        (format!(r"(?i)([a-z0-9_.-]*(?:{SECRET_NAMES})[a-z0-9_.-]*{IS})(?:{VALUE})"), "$1[redacted]"),
        (format!(r"(?i)({WORD}(?:bearer|basic)[ \t]+)[a-z0-9._~+/=-]{{8,}}"), "$1[redacted]"),
        // What may be shown of a key is its first eight characters.
        (r"mpk_[A-Za-z0-9]{9,}".to_owned(), mask),
        (r"whsec_[A-Za-z0-9+/=_-]{4,}".to_owned(), mask),
        (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*".to_owned(), mask),
        // 32 bytes: what seals, and what signs.
        (format!(r"({WORD})[A-Za-z0-9+/]{{43}}="), "$1[redacted]"),
        (format!(r"{MAIL}{{1,64}}(?:@|%40){MAIL}{{1,253}}\.[A-Za-z\x{{80}}-\x{{10FFFF}}]{{2,}}"), mask),
        (r"(^|[^A-Za-z0-9_.+-]|\\[bfnrt])\+(?:[0-9][ ().\x{a0}-]{0,2}){7,14}[0-9]".to_owned(), "$1[redacted]"),
        (
            r"(^|[^A-Za-z0-9_.+-]|\\[bfnrt])(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}($|[^A-Za-z0-9_.-]|\.(?:$|[^0-9]))"
                .to_owned(),
            "$1[redacted]$2",
        ),
        // Mobile numbers as people write them where most of our creators live.
        (
            r"(^|[^A-Za-z0-9_.+-]|\\[bfnrt])0[35789][0-9]{2}[ .]?[0-9]{3}[ .]?[0-9]{3}($|[^A-Za-z0-9_.-]|\.(?:$|[^0-9]))"
                .to_owned(),
            "$1[redacted]$2",
        ),
    ]
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let compiled =
        rules().into_iter().map(|(pattern, becomes)| Rule { looks_like: compile(&pattern), becomes });
    compiled.collect()
});

static ANY: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = rules().into_iter().map(|(pattern, _)| pattern);
    RegexSet::new(patterns).expect("the patterns are constants, and a test reads them all")
});

static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| compile(&format!("(?i){SECRET_NAMES}")));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns are constants, and a test reads them all")
}

/// Makes the patterns ready, so that the first line does not wait for them, and that they cannot fail within one.
pub(super) fn prepare() {
    LazyLock::force(&ANY);
    LazyLock::force(&RULES);
    LazyLock::force(&SECRET_NAME);
}

/// Whether anything in it, escaped as in JSON or not, may have to go.
pub(super) fn is_suspicious(text: &str) -> bool {
    ANY.is_match(text)
}

/// Whether the value of something of this name is nobody's business.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET_NAME.is_match(name)
}

pub(super) fn redact(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    // All of them, not only those that matched at first: what one leaves may be another's.
    if is_suspicious(&text) {
        for rule in RULES.iter() {
            if let Cow::Owned(changed) = rule.looks_like.replace_all(&text, rule.becomes) {
                text = Cow::Owned(changed);
            }
        }
    }
    text
}
