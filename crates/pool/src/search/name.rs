//! Finding creators by name, as people type names: without accents, with the beginning of a word, with a slip.
//!
//! A name is folded: compatibility forms become plain letters, accents go (also `đ`, `ł`, `ø` …, which Unicode does not
//! take apart), letters become small, and whatever is no letter or digit ends a word. Each word of what was typed must
//! be met by the username or the display name:
//!
//! | how a word is met | since how many letters |
//! |---|---|
//! | it is the whole name, a word of it, or how a word begins | 1 |
//! | it stands somewhere in a word | 3 |
//! | it is a word but for a slip | 4 |
//! | it is how a word begins but for a slip | 6 |
//!
//! A slip is a letter wrong, missing or too many, or two neighbours swapped. Spaces are no matter either: a name of
//! several words is also one word, and so is what was typed. The better it is met, the earlier a creator is found.
//!
//! Beside each name stands a signature: a bit for each pair of neighbouring letters. Whatever meets a word must have
//! all pairs of a part of it, so most names are ruled out by a look at 16 bytes, and none that would be met.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longer names are cut.
const NAME_CHARS_MAX: usize = 200;
/// Longer words are cut.
const WORD_CHARS_MAX: usize = 64;
/// From so many letters on a word is met within another.
const INSIDE_CHARS_MIN: usize = 3;
/// From so many letters on a word may have a slip,
const SLIP_CHARS_MIN: usize = 4;
/// also as the beginning of another.
const SLIP_PREFIX_CHARS_MIN: usize = 6;

/// How well something was met; the smaller the better.
type Distance = u8;
const WHOLE: Distance = 0;
const WORD: Distance = 1;
const PREFIX: Distance = 2;
const SLIP: Distance = 3;
const INSIDE: Distance = 4;
const FAR: Distance = 5;

/// What was typed holds no letter and no digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must contain a letter or a digit")]
pub struct NoLetters;

/// Text without accents, in small letters, its words set apart by one space each.
fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for letter in text.nfkd().filter(|letter| !is_combining_mark(*letter)).take(NAME_CHARS_MAX) {
        for letter in letter.to_lowercase() {
            match letter {
                'đ' | 'ð' => folded.push('d'),
                'ł' => folded.push('l'),
                'ø' => folded.push('o'),
                'ħ' => folded.push('h'),
                'ı' => folded.push('i'),
                'ß' => folded.push_str("ss"),
                'æ' => folded.push_str("ae"),
                'œ' => folded.push_str("oe"),
                // Capitals may bring their marks only now.
                letter if is_combining_mark(letter) => {}
                letter if letter.is_alphanumeric() => folded.push(letter),
                _ if folded.is_empty() || folded.ends_with(' ') => {}
                _ => folded.push(' '),
            }
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

fn cut(word: &str) -> &str {
    word.char_indices().nth(WORD_CHARS_MAX).map_or(word, |(end, _)| &word[..end])
}

/// A creator's names as they are searched: a line each, first the whole as one word, then its words.
pub(super) fn searched(username: &str, display_name: &str) -> Box<str> {
    let line = |name: &str| {
        let name = folded(name);
        let joined = name.replace(' ', "");
        let mut line = cut(&joined).to_owned();
        for word in name.split(' ').filter(|_| joined.len() < name.len()) {
            line.push(' ');
            line.push_str(cut(word));
        }
        line
    };
    let (user, shown) = (line(username), line(display_name));
    if shown.is_empty() || user == shown { user.into() } else { format!("{user}\n{shown}").into() }
}

/// A bit for a letter after another.
fn pair(before: char, letter: char) -> u128 {
    let mixed = (u32::from(before) << 16 ^ u32::from(letter)).wrapping_mul(0x9E37_79B1);
    1 << (mixed >> 25)
}

/// The bits of a word's pairs of neighbours.
fn pairs(letters: impl Iterator<Item = char>) -> u128 {
    let mut before = None;
    letters.fold(0, |bits, letter| bits | before.replace(letter).map_or(0, |before| pair(before, letter)))
}

/// The pairs of all words of [`searched`] names; a word begins and ends with a space.
pub(super) fn signature(names: &str) -> u128 {
    names.split([' ', '\n']).fold(0, |bits, word| bits | pairs(spaced(word.chars())))
}

fn spaced(letters: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    std::iter::once(' ').chain(letters).chain(std::iter::once(' '))
}

/// What a name must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameQuery {
    words: Vec<Word>,
    /// All words as one, if they are several.
    joined: Option<Word>,
}

impl NameQuery {
    /// Reads what somebody typed.
    ///
    /// # Errors
    /// [`NoLetters`].
    pub fn new(typed: &str) -> Result<Self, NoLetters> {
        let folded = folded(typed);
        let mut words: Vec<Word> = folded.split(' ').filter(|word| !word.is_empty()).map(Word::of).collect();
        // Long ones rule out the most; said twice is said once.
        words.sort_by(|one, other| {
            other.letters.len().cmp(&one.letters.len()).then_with(|| one.letters.cmp(&other.letters))
        });
        words.dedup();
        let joined = (words.len() > 1).then(|| Word::of(&folded.replace(' ', "")));
        if words.is_empty() { Err(NoLetters) } else { Ok(Self { words, joined }) }
    }

    /// How well [`searched`] names meet it, if they do. Most are ruled out by their [`signature`].
    pub(super) fn distance(&self, names: &str, signature: u128) -> Option<Distance> {
        let is_met = self.words.iter().all(|word| word.may_meet(signature));
        let sum = |sum: Distance, word: &Word| Some(sum.saturating_add(word.met_by(names)?));
        let by_words = if is_met { self.words.iter().try_fold(0, sum) } else { None };
        let joined = self.joined.as_ref().filter(|joined| joined.may_meet(signature));
        by_words.into_iter().chain(joined.and_then(|joined| joined.met_by(names))).min()
    }
}

/// A word to be met.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    letters: Vec<char>,
    /// The same, if each is a byte.
    bytes: Option<Vec<u8>>,
    /// All pairs of one of these must be there.
    needed: Vec<u128>,
}

impl Word {
    fn of(text: &str) -> Self {
        let text = cut(text);
        let letters: Vec<char> = text.chars().collect();
        let bytes = text.is_ascii().then(|| text.as_bytes().to_vec());
        Self { needed: needed(&letters), letters, bytes }
    }

    fn may_meet(&self, signature: u128) -> bool {
        self.needed.iter().any(|pairs| pairs & signature == *pairs)
    }

    fn met_by(&self, names: &str) -> Option<Distance> {
        match &self.bytes {
            Some(bytes) if names.is_ascii() => met_by(bytes, names.as_bytes(), [b' ', b'\n']),
            _ => met_by(&self.letters, &names.chars().collect::<Vec<char>>(), [' ', '\n']),
        }
    }
}

/// Which pairs a name must have to meet a word.
fn needed(word: &[char]) -> Vec<u128> {
    let letters = |range: &[char]| pairs(range.iter().copied());
    let begun = |range: &[char]| pairs(std::iter::once(' ').chain(range.iter().copied()));
    let ended = |range: &[char]| pairs(range.iter().copied().chain(std::iter::once(' ')));
    match word.len() {
        ..INSIDE_CHARS_MIN => return vec![begun(word)],
        INSIDE_CHARS_MIN..SLIP_CHARS_MIN => return vec![letters(word)],
        _ => {}
    }
    // One slip leaves one half as it is, unless it swaps the letters where they meet.
    let middle = word.len() / 2;
    let (first, second) = word.split_at(middle);
    let mut swapped = word.to_vec();
    swapped.swap(middle - 1, middle);
    match word.len() {
        ..SLIP_PREFIX_CHARS_MIN => {
            vec![begun(first), ended(second), letters(word), begun(&swapped) | ended(&swapped)]
        }
        _ => vec![begun(first), letters(second), begun(&swapped)],
    }
}

/// How well the best of all words meets one that was typed.
fn met_by<T: Copy + PartialEq>(typed: &[T], names: &[T], [space, line]: [T; 2]) -> Option<Distance> {
    let (mut best, mut start, mut is_whole) = (FAR + 1, 0, true);
    while start < names.len() {
        let rest = &names[start..];
        let end = rest.iter().position(|letter| *letter == space || *letter == line).unwrap_or(rest.len());
        best = met(typed, &rest[..end], is_whole, best);
        if best == WHOLE {
            break;
        }
        is_whole = rest.get(end) == Some(&line);
        start += end + 1;
    }
    (best <= FAR).then_some(best)
}

/// How well a word of a name meets one that was typed, if better than the `best` so far.
fn met<T: Copy + PartialEq>(typed: &[T], word: &[T], is_whole: bool, best: Distance) -> Distance {
    let alike = typed.iter().zip(word).take_while(|(typed, letter)| typed == letter).count();
    if alike == typed.len() {
        let distance = match (word.len() == alike, is_whole) {
            (true, true) => WHOLE,
            (true, false) => WORD,
            (false, _) => PREFIX,
        };
        return best.min(distance);
    }
    // What is alike so far is no slip.
    let (typed_rest, word_rest) = (&typed[alike..], &word[alike..]);
    if best > SLIP
        && typed.len() >= SLIP_CHARS_MIN
        && word.len().abs_diff(typed.len()) <= 1
        && is_slip(typed_rest, word_rest, |typed, word| typed == word)
    {
        return SLIP;
    }
    if best > INSIDE && typed.len() >= INSIDE_CHARS_MIN && word.len() > typed.len() && contains(word, typed) {
        return INSIDE;
    }
    let is_far = best > FAR
        && typed.len() >= SLIP_PREFIX_CHARS_MIN
        && word.len() + 1 >= typed.len()
        && is_slip(typed_rest, word_rest, |typed, word| word.starts_with(typed));
    if is_far { FAR } else { best }
}

/// Whether one slip, right here, makes what was typed fit.
fn is_slip<T: Copy + PartialEq>(typed: &[T], word: &[T], fits: impl Fn(&[T], &[T]) -> bool) -> bool {
    match (typed, word) {
        // One letter wrong, too many, missing.
        ([_, typed_rest @ ..], [_, word_rest @ ..])
            if fits(typed_rest, word_rest) || fits(typed_rest, word) || fits(typed, word_rest) =>
        {
            true
        }
        // Two of them swapped.
        ([a, b, typed_rest @ ..], [c, d, word_rest @ ..]) => a == d && b == c && fits(typed_rest, word_rest),
        ([_, typed_rest @ ..], []) => fits(typed_rest, word),
        ([], [_, word_rest @ ..]) => fits(typed, word_rest),
        _ => false,
    }
}

fn contains<T: Copy + PartialEq>(word: &[T], typed: &[T]) -> bool {
    let (first, last) = (typed[0], typed[typed.len() - 1]);
    let mut windows = word.windows(typed.len());
    windows.any(|window| window[0] == first && window[typed.len() - 1] == last && window == typed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distance(typed: &str, username: &str, shown: &str) -> Option<Distance> {
        let names = searched(username, shown);
        NameQuery::new(typed).unwrap().distance(&names, signature(&names))
    }

    #[test]
    fn accents_case_and_marks_are_no_matter_on_either_side() {
        for (text, expected) in [
            ("Nguyễn Đình Hưởng", "nguyen dinh huong"),
            ("NGUYỄN", "nguyen"),
            ("  🎮 Lê_Thị.Bưởi-2k3! ", "le thi buoi 2k3"),
            ("𝓛𝓪𝓷 Ａｎｈ", "lan anh"),
            ("Łukasz Øresund straße İpek", "lukasz oresund strasse ipek"),
            ("Зоряна", "зоряна"),
            ("ไทย", "ไทย"),
            ("🎮%_'\"\u{1}", ""),
        ] {
            assert_eq!(folded(text), expected);
        }
        assert_eq!(folded("Nguye\u{302}\u{303}n"), folded("Nguyễn"), "however the accents are written");
    }

    #[test]
    fn the_better_a_name_is_met_the_nearer_it_is() {
        for (typed, expected) in [
            ("Nguyễn Đình Hưởng", Some(WHOLE)),
            ("nguyen dinh huong", Some(WHOLE)),
            ("nguyendinhhuong", Some(WHOLE)),
            ("dinh", Some(WORD)),
            ("đ", Some(PREFIX)),
            ("huo", Some(PREFIX)),
            ("huogn", Some(SLIP)),
            ("dnh", None),
            ("dynh", Some(SLIP)),
            ("inhh", Some(INSIDE)),
            ("nguyne din", Some(SLIP + PREFIX)),
            ("huong nguyen", Some(WORD + WORD)),
            ("nguxendinhhuong", Some(SLIP)),
            ("nguxedinhhuong", None),
            ("gamnig", Some(SLIP)),
            ("gamnig2", Some(FAR)),
            ("huong tran", None),
            ("h u o n g", Some(WORD)),
            ("x", None),
        ] {
            assert_eq!(distance(typed, "gaming_2k3", "Nguyễn Đình Hưởng"), expected, "{typed}");
        }
        assert_eq!(distance("beauty creator", "beautycreator", "BC"), Some(WHOLE));
        assert_eq!(distance("lan", "lan", ""), Some(WHOLE));
        assert_eq!(distance("Зоряна", "z", "Зорана Ш"), Some(SLIP));
    }

    #[test]
    fn what_holds_no_letter_is_no_name() {
        for typed in ["", "   ", "%_'\"", "\u{0}\u{1}", "🎮🎮", "\u{301}"] {
            assert_eq!(NameQuery::new(typed), Err(NoLetters), "{typed:?}");
        }
    }

    /// The least slips that make `typed` of `word`, or of how it begins, by the table of the textbook.
    fn slips(typed: &[char], word: &[char], begins: bool) -> usize {
        let mut table = vec![vec![0usize; word.len() + 1]; typed.len() + 1];
        for row in 0..=typed.len() {
            for column in 0..=word.len() {
                table[row][column] = match (row, column) {
                    (0, column) => column,
                    (row, 0) => row,
                    _ => {
                        let differs = usize::from(typed[row - 1] != word[column - 1]);
                        let mut least = (table[row - 1][column] + 1)
                            .min(table[row][column - 1] + 1)
                            .min(table[row - 1][column - 1] + differs);
                        let is_swapped = row > 1
                            && column > 1
                            && typed[row - 1] == word[column - 2]
                            && typed[row - 2] == word[column - 1];
                        if is_swapped {
                            least = least.min(table[row - 2][column - 2] + 1);
                        }
                        least
                    }
                };
            }
        }
        let last = &table[typed.len()];
        if begins { *last.iter().min().unwrap() } else { *last.last().unwrap() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn slips_are_counted_as_the_textbook_counts_them(
            typed in "[ab]{2,4}[abc]{2,4}", word in "[ab]{0,4}[abc]{0,5}",
        ) {
            let (typed, word): (Vec<char>, Vec<char>) = (typed.chars().collect(), word.chars().collect());
            let is_inside = word.windows(typed.len()).any(|window| window == typed);
            let expected = match (slips(&typed, &word, true), slips(&typed, &word, false)) {
                (_, 0) => WORD,
                (0, _) => PREFIX,
                (_, 1) => SLIP,
                _ if is_inside => INSIDE,
                (1, _) if typed.len() >= SLIP_PREFIX_CHARS_MIN => FAR,
                _ => FAR + 1,
            };
            prop_assert_eq!(met(&typed, &word, false, FAR + 1), expected);
        }

        #[test]
        fn no_name_that_is_met_is_ruled_out_by_its_signature(
            words in proptest::collection::vec("[abcđ]{1,13}", 1..4), typed in "[abcd]{1,13}( [abcd]{1,5})?",
            cut in 0..12usize, swap in 0..12usize,
        ) {
            let query = NameQuery::new(&typed).unwrap();
            // Also a name that is what was typed but for some slips.
            let mut near: Vec<char> = typed.chars().collect();
            if swap + 1 < near.len() { near.swap(swap, swap + 1); }
            if cut < near.len() { near.remove(cut); }
            for name in [words.join(" "), near.into_iter().collect()] {
                let names = searched(&name, &words[0]);
                prop_assert_eq!(query.distance(&names, signature(&names)), query.distance(&names, u128::MAX));
            }
        }
    }
}
