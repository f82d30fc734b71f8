//! What verifying finds.

use super::*;

fn uuid(id: AuditId) -> String {
    id.uuid().to_string()
}

#[tokio::test]
async fn a_log_that_nobody_touched_has_nothing_wrong_with_it() {
    let db = TestDb::new().await;
    assert_eq!(verified(db.pool(), None).await.head, None, "nor an empty one");
    five(db.pool()).await;
    recorded(db.pool(), "waits").await;
    let first = verified(db.pool(), None).await;
    assert_eq!((first.entries, first.findings.as_slice(), first.has_more), (5, [].as_slice(), false));
    let head = first.head.expect("a head");
    assert_eq!((head.seq, sealed(db.pool()).await), (5, 1));
    let later = verified(db.pool(), Some(&head)).await;
    assert_eq!((later.entries, later.findings), (6, Vec::new()), "it goes through the head that was kept");
}

#[tokio::test]
async fn the_log_refuses_to_be_changed() {
    let db = TestDb::new().await;
    five(db.pool()).await;
    for table in ["audit_log", "audit_chain"] {
        for statement in ["update {} set id = id", "delete from {}", "truncate {}"] {
            let statement = statement.replace("{}", table);
            let refused = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(db.pool()).await;
            let error = refused.expect_err(&statement).to_string();
            assert!(error.contains("is append-only"), "{statement}: {error}");
        }
    }
    assert_eq!(findings(db.pool()).await, []);
}

#[tokio::test]
async fn a_changed_entry_is_found_whatever_was_changed() {
    for (column, value) in [
        ("actor", "'somebody else'"),
        ("actor_kind", "'system'"),
        ("action", "'tests.other'"),
        ("target", "'z'"),
        ("tenant_id", "gen_random_uuid()"),
        ("before", "'{}'"),
        ("after", "null"),
        ("after", "replace(after::text, 'c', 'd')::json"),
        ("request_id", "null"),
        ("tag", "(select tag from audit_log order by id limit 1)"),
    ] {
        let db = TestDb::new().await;
        let ids = five(db.pool()).await;
        tamper(db.pool(), &format!("update audit_log set {column} = {value} where id = '{}'", uuid(ids[2])))
            .await;
        assert_eq!(findings(db.pool()).await, [Finding::Changed { seq: 3, entry: ids[2] }], "{column}");
    }
}

#[tokio::test]
async fn a_changed_time_is_found() {
    let db = TestDb::new().await;
    let ids = five(db.pool()).await;
    tamper(
        db.pool(),
        &format!("update audit_log set at = at - interval '1 day' where id = '{}'", uuid(ids[1])),
    )
    .await;
    assert_eq!(findings(db.pool()).await, [Finding::LinkChanged { seq: 2, entry: ids[1] }]);
}

#[tokio::test]
async fn a_removed_entry_is_found() {
    let db = TestDb::new().await;
    let ids = five(db.pool()).await;
    tamper(db.pool(), &format!("delete from audit_log where id = '{}'", uuid(ids[3]))).await;
    assert_eq!(findings(db.pool()).await, [Finding::Removed { seq: 4, entry: ids[3] }]);
}

#[tokio::test]
async fn an_entry_that_is_removed_with_its_link_leaves_a_gap() {
    let db = TestDb::new().await;
    let ids = five(db.pool()).await;
    let id = uuid(ids[1]);
    tamper(
        db.pool(),
        &format!("delete from audit_log where id = '{id}'; delete from audit_chain where id = '{id}'"),
    )
    .await;
    assert_eq!(findings(db.pool()).await, [Finding::Gap { first: 2, last: 2 }]);
    // To close the gap, later links would have to be made anew.
    tamper(db.pool(), "update audit_chain set seq = seq - 1 where seq > 2; update audit_head set seq = 4")
        .await;
    let found = findings(db.pool()).await;
    assert!(found.contains(&Finding::LinkChanged { seq: 2, entry: ids[2] }), "{found:?}");
    assert!(found.contains(&Finding::HeadChanged { noted: 4, found: 4 }), "{found:?}");
}

const FORGED: &str = "insert into audit_log (id, actor_kind, actor, action, target, tenant_id, tag)
    values ('01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10', 'system', 'a test', 'tests.change', 'x',
            '00000000-0000-0000-0000-000000000000', (select tag from audit_log order by id limit 1));";

fn forged() -> AuditId {
    AuditId::from_uuid("01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10".parse().unwrap())
}

#[tokio::test]
async fn an_inserted_entry_is_found() {
    let db = TestDb::new().await;
    five(db.pool()).await;
    tamper(db.pool(), FORGED).await;
    assert_eq!(findings(db.pool()).await, [Finding::Inserted { entry: forged() }]);
}

#[tokio::test]
async fn an_inserted_entry_is_found_also_when_it_is_marked_to_be_sealed_and_then_is_sealed() {
    let db = TestDb::new().await;
    five(db.pool()).await;
    tamper(db.pool(), FORGED).await;
    tamper(db.pool(), "insert into audit_unsealed (id) values ('01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10')")
        .await;
    assert_eq!(sealed(db.pool()).await, 1);
    assert_eq!(findings(db.pool()).await, [Finding::Changed { seq: 6, entry: forged() }]);
}

#[tokio::test]
async fn an_inserted_entry_is_found_also_when_it_is_put_into_the_chain() {
    let db = TestDb::new().await;
    five(db.pool()).await;
    tamper(db.pool(), FORGED).await;
    let chained = "insert into audit_chain (seq, id, link)
                   select 6, '01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10', link from audit_chain where seq = 5";
    tamper(db.pool(), chained).await;
    let found = findings(db.pool()).await;
    let expected =
        [Finding::HeadChanged { noted: 5, found: 6 }, Finding::Changed { seq: 6, entry: forged() }];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn swapped_entries_are_found() {
    let db = TestDb::new().await;
    let ids = five(db.pool()).await;
    let swap = format!(
        "update audit_chain set id = gen_random_uuid() where seq = 2; \
         update audit_chain set id = '{}' where seq = 4; update audit_chain set id = '{}' where seq = 2",
        uuid(ids[1]),
        uuid(ids[3])
    );
    tamper(db.pool(), &swap).await;
    let expected =
        [Finding::LinkChanged { seq: 2, entry: ids[3] }, Finding::LinkChanged { seq: 4, entry: ids[1] }];
    assert_eq!(findings(db.pool()).await, expected);
}

#[tokio::test]
async fn an_edited_link_is_one_finding() {
    for link in
        ["reverse(link)", "(select link from audit_chain where seq = 1)", "left(link, -1) || 'e'", "''"]
    {
        let db = TestDb::new().await;
        let ids = five(db.pool()).await;
        // It may end in e by chance.
        tamper(db.pool(), &format!("update audit_chain set link = {link} where seq = 3 and link <> {link}"))
            .await;
        let found = findings(db.pool()).await;
        assert!(
            found == [Finding::LinkChanged { seq: 3, entry: ids[2] }]
                || (link.contains("'e'") && found.is_empty()),
            "{link}: {found:?}"
        );
    }
}

#[tokio::test]
async fn a_chain_that_was_cut_off_is_found_and_stays_found_when_sealing_goes_on() {
    let db = TestDb::new().await;
    let ids = five(db.pool()).await;
    let head = verified(db.pool(), None).await.head.unwrap();
    tamper(
        db.pool(),
        &format!(
            "delete from audit_chain where seq > 3; delete from audit_log where id > '{}'",
            uuid(ids[2])
        ),
    )
    .await;
    assert_eq!(findings(db.pool()).await, [Finding::CutOff { noted: 5, found: 3 }]);
    recorded(db.pool(), "f").await;
    assert_eq!(sealed(db.pool()).await, 1);
    assert_eq!(findings(db.pool()).await, [Finding::Gap { first: 4, last: 6 }]);
    let with_kept = verified(db.pool(), Some(&head)).await.findings;
    let expected = [Finding::Gap { first: 4, last: 6 }, Finding::OtherThanKept { kept: head, found: None }];
    assert_eq!(with_kept, expected);
}

#[tokio::test]
async fn a_chain_that_was_cut_off_under_a_note_of_a_made_up_key_is_not_covered_up_by_sealing() {
    let db = TestDb::new().await;
    let ids = five(db.pool()).await;
    tamper(
        db.pool(),
        &format!(
            "delete from audit_chain where seq > 3; delete from audit_log where id > '{}'; \
             update audit_head set seq = 3, link = (select link from audit_chain where seq = 3), \
                 tag = 'x:' || repeat('0', 64)",
            uuid(ids[2])
        ),
    )
    .await;
    assert_eq!(findings(db.pool()).await, [Finding::UnknownKey { seq: 3, key_id: "x".to_owned() }]);
    recorded(db.pool(), "f").await;
    assert_eq!(sealed(db.pool()).await, 1);
    assert_eq!(findings(db.pool()).await, [Finding::Gap { first: 4, last: 4 }]);
}

#[tokio::test]
async fn sealing_under_keys_that_do_not_know_those_before_leaves_no_gap() {
    let db = TestDb::new().await;
    let (gone, pool) = (Keyring::generate(), db.pool());
    recorded_with(pool, &gone, "a").await;
    jobs::audit_log::seal(pool, &gone).await.unwrap();
    recorded(pool, "b").await;
    assert_eq!(sealed(pool).await, 1);
    let verified = verified(pool, None).await;
    assert_eq!((verified.entries, verified.head.map(|head| head.seq)), (2, Some(2)));
    let unknown = |finding: &Finding| matches!(finding, Finding::UnknownKey { seq: 1, .. });
    assert!(verified.findings.iter().all(unknown), "{:?}", verified.findings);
}

#[tokio::test]
async fn an_older_state_of_everything_is_found_with_a_head_that_was_kept() {
    let db = TestDb::new().await;
    let first = recorded(db.pool(), "a").await;
    sealed(db.pool()).await;
    tamper(db.pool(), "create table kept_head as select * from audit_head").await;
    recorded(db.pool(), "b").await;
    sealed(db.pool()).await;
    let kept = verified(db.pool(), None).await.head.unwrap();
    let roll_back = format!(
        "delete from audit_chain where seq > 1; delete from audit_log where id > '{}'; \
         delete from audit_head; insert into audit_head select * from kept_head",
        uuid(first)
    );
    tamper(db.pool(), &roll_back).await;
    assert_eq!(findings(db.pool()).await, [], "the database alone cannot tell");
    let found = verified(db.pool(), Some(&kept)).await.findings;
    assert_eq!(found, [Finding::OtherThanKept { kept: kept.clone(), found: None }]);
    // Another chain of the same length is another one.
    recorded(db.pool(), "b").await;
    sealed(db.pool()).await;
    let found = verified(db.pool(), Some(&kept)).await.findings;
    assert!(matches!(found.as_slice(), [Finding::OtherThanKept { found: Some(_), .. }]), "{found:?}");
}

#[tokio::test]
async fn a_missing_or_forged_note_of_the_head_is_found() {
    let db = TestDb::new().await;
    five(db.pool()).await;
    tamper(db.pool(), "update audit_head set seq = 4, link = (select link from audit_chain where seq = 4)")
        .await;
    assert_eq!(findings(db.pool()).await, [Finding::HeadChanged { noted: 4, found: 5 }]);
    tamper(db.pool(), "delete from audit_head").await;
    assert_eq!(findings(db.pool()).await, [Finding::HeadMissing { seq: 5 }]);
    recorded(db.pool(), "f").await;
    sealed(db.pool()).await;
    assert_eq!(findings(db.pool()).await, [Finding::Gap { first: 6, last: 6 }], "sealing covers nothing up");
}

#[tokio::test]
async fn forged_marks_are_found_and_do_not_stop_sealing() {
    let db = TestDb::new().await;
    let ids = five(db.pool()).await;
    let stray = forged();
    let marks = format!("insert into audit_unsealed (id) values ('{}'), ('{}')", uuid(stray), uuid(ids[0]));
    tamper(db.pool(), &marks).await;
    recorded(db.pool(), "f").await;
    assert_eq!(sealed(db.pool()).await, 1);
    let found = findings(db.pool()).await;
    let expected = [Finding::StrayMark { entry: stray }, Finding::StrayMark { entry: ids[0] }];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn an_entry_whose_mark_was_removed_is_found() {
    let db = TestDb::new().await;
    let id = recorded(db.pool(), "a").await;
    tamper(db.pool(), "delete from audit_unsealed").await;
    assert_eq!(sealed(db.pool()).await, 0);
    assert_eq!(findings(db.pool()).await, [Finding::Inserted { entry: id }]);
}

#[tokio::test]
async fn an_entry_that_nobody_seals_is_found_after_a_while() {
    let db = TestDb::new().await;
    let id = recorded(db.pool(), "a").await;
    assert_eq!(findings(db.pool()).await, [], "it may wait a moment");
    tamper(db.pool(), "update audit_log set at = at - interval '1 hour'").await;
    assert_eq!(findings(db.pool()).await, [Finding::Waits { entry: id }]);
}

#[tokio::test]
async fn verifying_works_over_a_change_of_keys_and_says_when_one_is_missing() {
    let db = TestDb::new().await;
    let (old, pool) = (Keyring::generate(), db.pool());
    let new = old.rotated();
    for (ring, target) in [(&old, "a"), (&old, "b"), (&new, "c"), (&new, "d")] {
        recorded_with(pool, ring, target).await;
        jobs::audit_log::seal(pool, ring).await.unwrap();
    }
    let mut conn = pool.acquire().await.unwrap();
    let good = ::audit::verify(&mut conn, &new, None, |_| {}).await.unwrap();
    assert_eq!((good.entries, good.findings), (4, Vec::new()));
    let lacking = ::audit::verify(&mut conn, &old, None, |_| {}).await.unwrap().findings;
    assert!(!lacking.is_empty());
    for finding in lacking {
        let Finding::UnknownKey { seq, .. } = finding else { panic!("{finding}") };
        assert!(seq >= 3, "what the old key made is checked: {seq}");
    }
}

#[tokio::test]
async fn a_long_log_is_verified_in_chunks_and_findings_are_bounded() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let mut tx = db::begin(pool).await.unwrap();
    for n in 0..2_500 {
        let entry = Entry {
            actor: &Actor::System("a test"),
            action: "tests.change",
            target: &n.to_string(),
            tenant: TenantId::SYSTEM,
            before: None,
            after: None,
            request_id: None,
        };
        ::audit::record(&mut tx, &keyring(), &entry).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(sealed(pool).await, 2_500);
    let mut told = Vec::new();
    let mut conn = pool.acquire().await.unwrap();
    let good = ::audit::verify(&mut conn, &keyring(), None, |walked| told.push(walked)).await.unwrap();
    assert_eq!((good.entries, good.findings), (2_500, Vec::new()));
    assert_eq!(told, [1_000, 2_000, 2_500]);
    tamper(pool, "update audit_log set actor = 'somebody else'").await;
    let bad = ::audit::verify(&mut conn, &keyring(), None, |_| {}).await.unwrap();
    assert_eq!((bad.findings.len(), bad.has_more), (::audit::FINDINGS_MAX, true));
}
