use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"creator@example.com";

fn place() -> SealContext {
    SealContext {
        table: "pool_profiles",
        column: "contact_email",
        owner: Uuid::from_u128(1),
        row: Uuid::from_u128(2),
    }
}

// S0-170
#[test]
fn what_is_sealed_opens_in_its_place_and_does_not_show_the_plaintext() {
    let ring = Keyring::generate();
    let sealed = ring.seal(SECRET, &place());
    assert_eq!(ring.open(&sealed, &place()).unwrap(), SECRET);
    assert!(!sealed.windows(SECRET.len()).any(|window| window == SECRET));
    assert_eq!(ring.open(&ring.seal(b"", &place()), &place()).unwrap(), b"");
}

#[test]
fn sealing_the_same_twice_gives_different_bytes() {
    let ring = Keyring::generate();
    assert_ne!(ring.seal(SECRET, &place()), ring.seal(SECRET, &place()));
}

#[test]
fn a_value_opens_in_no_other_table_column_owner_or_row() {
    let ring = Keyring::generate();
    let sealed = ring.seal(SECRET, &place());
    let elsewhere = [
        SealContext { table: "partners", ..place() },
        SealContext { column: "contact_phone", ..place() },
        SealContext { owner: Uuid::from_u128(3), ..place() },
        SealContext { row: Uuid::from_u128(3), ..place() },
        SealContext { owner: place().row, row: place().owner, ..place() },
        SealContext { table: "pool_profilesc", column: "ontact_email", ..place() },
    ];
    for other in elsewhere {
        assert_eq!(ring.open(&sealed, &other), Err(SealError::Refused), "{other:?}");
    }
}

#[test]
fn changing_any_single_byte_keeps_a_value_from_opening() {
    let ring = Keyring::generate();
    let sealed = ring.seal(SECRET, &place());
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        assert!(ring.open(&changed, &place()).is_err(), "byte {index}");
    }
    for len in 0..sealed.len() {
        assert!(ring.open(&sealed[..len], &place()).is_err(), "cut to {len} bytes");
    }
    assert_eq!(ring.open(&[sealed.as_slice(), b"x"].concat(), &place()), Err(SealError::Refused));
}

#[test]
fn a_value_of_a_foreign_key_names_that_key() {
    let (ours, theirs) = (Keyring::generate(), Keyring::parse(&key_line("other", 9)).unwrap());
    let error = ours.open(&theirs.seal(SECRET, &place()), &place()).unwrap_err();
    assert_eq!(error, SealError::UnknownKey { key_id: "other".into() });
}

#[test]
fn another_key_under_the_same_id_is_refused() {
    let (first, second) =
        (Keyring::parse(&key_line("main", 1)).unwrap(), Keyring::parse(&key_line("main", 2)).unwrap());
    assert_eq!(second.open(&first.seal(SECRET, &place()), &place()), Err(SealError::Refused));
}

#[test]
fn after_a_rotation_old_values_open_and_new_ones_use_the_new_key() {
    let old = Keyring::generate();
    let sealed_before = old.seal(SECRET, &place());
    let ring = old.rotated();
    assert_ne!(ring.current_key_id(), old.current_key_id());
    assert_eq!(ring.open(&sealed_before, &place()).unwrap(), SECRET);
    assert!(ring.is_outdated(&sealed_before).unwrap());

    let sealed_after = ring.seal(SECRET, &place());
    assert!(!ring.is_outdated(&sealed_after).unwrap());
    assert_eq!(ring.open(&sealed_after, &place()).unwrap(), SECRET);
    let unknown = SealError::UnknownKey { key_id: ring.current_key_id().into() };
    assert_eq!(old.open(&sealed_after, &place()), Err(unknown));
}

#[test]
fn a_ring_survives_the_way_through_text_in_order() {
    let ring = Keyring::generate().rotated().rotated();
    let read = Keyring::parse(&ring.to_text()).unwrap();
    assert_eq!(read.to_text(), ring.to_text());
    assert_eq!(read.current_key_id(), ring.current_key_id());
    assert_eq!(read.open(&ring.seal(SECRET, &place()), &place()).unwrap(), SECRET);
}

#[test]
fn comments_blank_lines_and_commas_are_read_as_people_write_them() {
    let text = format!("# made, by hand\n\n  {} , {}\r\n", key_line("b", 1), key_line("a", 2));
    let ring = Keyring::parse(&text).unwrap();
    assert_eq!(ring.current_key_id(), "b");
    assert_eq!(ring.to_text().lines().count(), 2);
}

#[test]
fn a_bad_ring_is_refused_without_repeating_a_key() {
    let good = key_line("main", 1);
    let cases = [
        (String::new(), SealError::NoKeys),
        ("# nothing\n".into(), SealError::NoKeys),
        (BASE64_STANDARD.encode([7; 32]), bad(1, "expected `keyid:base64key`")),
        (
            format!("{good}\nmain:{}", BASE64_STANDARD.encode([8; 32])),
            bad(2, "its key id is already taken by another key"),
        ),
        (format!("{good}\nx:c2hvcnQ="), bad(2, "the key must be 32 bytes long")),
        ("x:not base64!".into(), bad(1, "the key is not base64")),
        (
            format!("Main:{}", BASE64_STANDARD.encode([8; 32])),
            bad(1, "a key id has 1 to 32 characters of a-z, 0-9, `-` and `_`"),
        ),
        (
            format!("{}:{}", "x".repeat(33), BASE64_STANDARD.encode([8; 32])),
            bad(1, "a key id has 1 to 32 characters of a-z, 0-9, `-` and `_`"),
        ),
        ((0..65).map(|i| key_line(&format!("k{i}"), 1) + "\n").collect(), SealError::TooManyKeys),
    ];
    for (text, expected) in cases {
        assert_eq!(Keyring::parse(&text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn debug_output_names_the_keys_but_does_not_show_them() {
    let ring = Keyring::parse(&key_line("main", 7)).unwrap();
    let shown = format!("{ring:?} {ring:#?}");
    assert!(shown.contains("main"));
    assert!(!shown.contains(&BASE64_STANDARD.encode([7; 32])) && !shown.contains("7, 7"), "{shown}");
}

fn key_line(id: &str, byte: u8) -> String {
    format!("{id}:{}", BASE64_STANDARD.encode([byte; KEY_BYTES]))
}

fn bad(entry: usize, fault: &'static str) -> SealError {
    SealError::BadKey { entry, fault }
}

proptest! {
    #[test]
    fn no_bytes_make_opening_panic(mut bytes: Vec<u8>, versioned: bool) {
        if let (true, Some(first)) = (versioned, bytes.first_mut()) {
            *first = VERSION;
        }
        prop_assert!(Keyring::parse(&key_line("main", 1)).unwrap().open(&bytes, &place()).is_err());
    }
}
