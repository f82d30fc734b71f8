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
//! | the two above with two slips | 10 |
//!
//! A slip is a letter wrong, missing or too many, or two neighbours swapped. Spaces are no matter either: a name of
//! several words is also one word, and so is what was typed. The better it is met, the earlier a creator is found.
//!
//! Beside each name stands a signature: a bit for each pair of neighbouring letters. Whatever meets a word must have
//! some of the word's pairs, so most names are ruled out by a look at 16 bytes, and none that would be met.

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
/// also as the beginning of another,
const SLIP_PREFIX_CHARS_MIN: usize = 6;
/// and from so many on two.
const SLIPS_CHARS_MIN: usize = 10;
/// One slip spoils so many pairs of neighbours at the most: the swapped ones, and those at their sides.
const SLIP_PAIRS_MAX: u32 = 3;

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

/// The pairs of all words of [`searched`] names; a word begins after a space.
pub(super) fn signature(names: &str) -> u128 {
    let mut before = ' ';
    names.chars().fold(0, |bits, letter| {
        let letter = if letter == '\n' { ' ' } else { letter };
        let bit = if letter == ' ' { 0 } else { pair(before, letter) };
        before = letter;
        bits | bit
    })
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
        let words: Vec<Word> = folded.split(' ').filter(|word| !word.is_empty()).map(Word::of).collect();
        let joined = (words.len() > 1).then(|| Word::of(&folded.replace(' ', "")));
        if words.is_empty() { Err(NoLetters) } else { Ok(Self { words, joined }) }
    }

    /// Whether names of this signature can meet it.
    pub(super) fn may_meet(&self, signature: u128) -> bool {
        self.words.iter().all(|word| word.may_meet(signature))
            || self.joined.as_ref().is_some_and(|joined| joined.may_meet(signature))
    }

    /// How well [`searched`] names meet it, if they do.
    pub(super) fn distance(&self, names: &str) -> Option<Distance> {
        let by_words =
            self.words.iter().try_fold(0u8, |sum, word| Some(sum.saturating_add(word.met_by(names)?)));
        let joined = self.joined.as_ref().and_then(|joined| joined.met_by(names));
        by_words.into_iter().chain(joined).min()
    }
}

/// A word to be met.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    letters: Vec<char>,
    /// The same, if each is a byte.
    bytes: Option<Vec<u8>>,
    /// Of the pairs of one of these all must be there, but for so many.
    needed: Vec<(u128, u32)>,
}

impl Word {
    fn of(text: &str) -> Self {
        let text = cut(text);
        let letters: Vec<char> = text.chars().collect();
        let bytes = text.is_ascii().then(|| text.as_bytes().to_vec());
        Self { needed: needed(&letters), letters, bytes }
    }

    fn may_meet(&self, signature: u128) -> bool {
        self.needed.iter().any(|(pairs, but)| (pairs & !signature).count_ones() <= *but)
    }

    fn met_by(&self, names: &str) -> Option<Distance> {
        let mut best = None;
        for name in names.split('\n') {
            for (index, word) in name.split(' ').enumerate() {
                let met = match &self.bytes {
                    Some(bytes) if word.is_ascii() => met(bytes, word.as_bytes()),
                    _ => met(&self.letters, &word.chars().collect::<Vec<char>>()),
                };
                let met = if met == Some(WORD) && index == 0 { Some(WHOLE) } else { met };
                best = best.into_iter().chain(met).min();
                if best == Some(WHOLE) {
                    return best;
                }
            }
        }
        best
    }
}

/// Which pairs a name must have to meet a word.
fn needed(word: &[char]) -> Vec<(u128, u32)> {
    let letters = |range: &[char]| pairs(range.iter().copied());
    let begun = |range: &[char]| pairs(std::iter::once(' ').chain(range.iter().copied()));
    let slips = slips_max(word.len());
    match word.len() {
        ..INSIDE_CHARS_MIN => vec![(begun(word), 0)],
        INSIDE_CHARS_MIN..SLIP_CHARS_MIN => vec![(letters(word), 0)],
        // One slip leaves one half as it is, unless it swaps the letters where they meet.
        SLIP_CHARS_MIN..SLIPS_CHARS_MIN => {
            let middle = word.len() / 2;
            let mut swapped = word.to_vec();
            swapped.swap(middle - 1, middle);
            vec![(begun(&word[..middle]), 0), (letters(&word[middle..]), 0), (begun(&swapped), 0)]
        }
        _ => vec![(begun(word), slips * SLIP_PAIRS_MAX)],
    }
}

fn slips_max(letters: usize) -> u32 {
    match letters {
        ..SLIP_CHARS_MIN => 0,
        SLIP_CHARS_MIN..SLIPS_CHARS_MIN => 1,
        _ => 2,
    }
}

/// How well a word of a name meets one that was typed.
fn met<T: Copy + PartialEq>(typed: &[T], word: &[T]) -> Option<Distance> {
    if word.starts_with(typed) {
        return Some(if word.len() == typed.len() { WORD } else { PREFIX });
    }
    let slips = slips_max(typed.len());
    if slips > 0 && is_within(typed, word, 1, false) {
        return Some(SLIP);
    }
    if typed.len() >= INSIDE_CHARS_MIN && word.windows(typed.len()).any(|window| window == typed) {
        return Some(INSIDE);
    }
    let is_far = slips > 0 && is_within(typed, word, slips, typed.len() >= SLIP_PREFIX_CHARS_MIN);
    is_far.then_some(FAR)
}

/// Whether so many slips make one word of the other, or, `begins`, the beginning of it.
fn is_within<T: Copy + PartialEq>(typed: &[T], word: &[T], slips: u32, begins: bool) -> bool {
    // What is alike so far needs no slip.
    let alike = typed.iter().zip(word).take_while(|(typed, letter)| typed == letter).count();
    let (typed, word) = (&typed[alike..], &word[alike..]);
    let slips_left = slips as usize;
    if typed.is_empty() && begins {
        return true;
    }
    let is_too_long = !begins && word.len() > typed.len() + slips_left;
    if is_too_long || typed.len() > word.len() + slips_left {
        return false;
    }
    let (Some((letter, typed_rest)), Some((other, word_rest))) = (typed.split_first(), word.split_first())
    else {
        // What is left of one of the two is no more than slips.
        return true;
    };
    if slips == 0 {
        return false;
    }
    let is_swapped = typed_rest.first() == Some(other) && word_rest.first() == Some(letter);
    is_within(typed_rest, word_rest, slips - 1, begins)
        || is_within(typed_rest, word, slips - 1, begins)
        || is_within(typed, word_rest, slips - 1, begins)
        || is_swapped && is_within(&typed_rest[1..], &word_rest[1..], slips - 1, begins)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distance(typed: &str, username: &str, shown: &str) -> Option<Distance> {
        let names = searched(username, shown);
        let query = NameQuery::new(typed).unwrap();
        let distance = query.distance(&names);
        assert!(distance.is_none() || query.may_meet(signature(&names)), "{typed} is met by {names}");
        distance
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
            ("nguxedinhhuong", Some(FAR)),
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
            typed in "[ab]{0,4}[abc]{0,4}", word in "[ab]{0,4}[abc]{0,5}", max in 0..3u32, begins in any::<bool>(),
        ) {
            let (typed, word): (Vec<char>, Vec<char>) = (typed.chars().collect(), word.chars().collect());
            let expected = slips(&typed, &word, begins) <= max as usize;
            prop_assert_eq!(is_within(&typed, &word, max, begins), expected);
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
                prop_assert!(query.distance(&names).is_none() || query.may_meet(signature(&names)));
            }
        }
    }
}
