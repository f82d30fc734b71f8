use proptest::prelude::*;
use uuid::uuid;

use super::*;

const SAMPLE: Uuid = uuid!("0188bac7-4afa-78aa-bc3b-bd1eef28d881");

#[test]
fn the_text_form_is_the_typeid_of_the_published_specification() {
    assert_eq!(JobId::from_uuid(SAMPLE).to_string(), "job_01h2xcejqtf2nbrexx3vqjhp41");
    assert_eq!(PartnerId::from_uuid(SAMPLE).to_string(), "ptn_01h2xcejqtf2nbrexx3vqjhp41");
    assert_eq!(ApiKeyId::from_uuid(SAMPLE).to_string(), "key_01h2xcejqtf2nbrexx3vqjhp41");
    assert_eq!(InfluencerId::from_uuid(SAMPLE).to_string(), "at_inf_01h2xcejqtf2nbrexx3vqjhp41");
    assert_eq!(DeliveryId::from_uuid(SAMPLE).to_string(), "dlv_01h2xcejqtf2nbrexx3vqjhp41");
    assert_eq!(JobId::from_uuid(Uuid::nil()).to_string(), "job_00000000000000000000000000");
    assert_eq!(JobId::from_uuid(Uuid::max()).to_string(), "job_7zzzzzzzzzzzzzzzzzzzzzzzzz");
}

#[test]
fn fresh_ids_are_version_seven_and_sort_in_the_order_they_were_made() {
    let ids: Vec<JobId> = (0..1_000).map(|_| JobId::new()).collect();
    assert!(ids.iter().all(|id| id.uuid().get_version_num() == 7));
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert!(ids.iter().map(JobId::to_string).is_sorted_by(|a, b| a < b));
}

#[test]
fn a_wrong_prefix_is_named_beside_the_expected_one() {
    let error = PartnerId::from_uuid(SAMPLE).to_string().parse::<InfluencerId>().unwrap_err();
    assert_eq!(error, IdError::WrongPrefix { expected: "at_inf", found: "ptn".into() });
    assert_eq!(error.to_string(), "expected an id that begins with `at_inf_`, found the prefix `ptn_`");

    let half = "inf_01h2xcejqtf2nbrexx3vqjhp41".parse::<InfluencerId>().unwrap_err();
    assert_eq!(half, IdError::WrongPrefix { expected: "at_inf", found: "inf".into() });
}

#[test]
fn a_bare_uuid_or_suffix_is_told_which_prefix_it_lacks() {
    for text in [SAMPLE.to_string().as_str(), "01h2xcejqtf2nbrexx3vqjhp41", "", "job"] {
        let error = text.parse::<JobId>().unwrap_err();
        assert_eq!(error, IdError::NoPrefix { expected: "job" }, "{text:?}");
        assert!(error.to_string().contains("`job_`"));
    }
}

#[test]
fn a_suffix_that_is_not_one_values_only_spelling_is_refused() {
    let spoiled = [
        "job_",
        "job_01h2xcejqtf2nbrexx3vqjhp4",
        "job_01h2xcejqtf2nbrexx3vqjhp411",
        "job_01H2XCEJQTF2NBREXX3VQJHP41",
        "job_81h2xcejqtf2nbrexx3vqjhp41",
        "job_01h2xcejqtf2nbrexx3vqjhpi1",
        "job_01h2xcejqtf2nbrexx3vqjhé1",
        "job_0188bac7-4afa-78aa-bc3b-bd1eef28d881",
        " job_01h2xcejqtf2nbrexx3vqjhp41",
    ];
    for text in spoiled {
        let error = text.parse::<JobId>().unwrap_err();
        assert!(error.to_string().contains("`job_`"), "{text:?}: {error}");
    }
}

#[test]
fn an_error_repeats_neither_control_characters_nor_long_input() {
    let error =
        format!("\u{1b}[2J{}_01h2xcejqtf2nbrexx3vqjhp41", "x".repeat(5_000)).parse::<JobId>().unwrap_err();
    let text = error.to_string();
    assert!(text.len() < 120 && !text.chars().any(char::is_control), "{text:?}");
}

#[test]
fn in_json_an_id_is_its_text_and_a_wrong_one_says_why() {
    let id = InfluencerId::from_uuid(SAMPLE);
    assert_eq!(serde_json::to_value(id).unwrap(), "at_inf_01h2xcejqtf2nbrexx3vqjhp41");
    assert_eq!(
        serde_json::from_str::<InfluencerId>("\"at_inf_01h2xcejqtf2nbrexx3vqjhp4\\u0031\"").unwrap(),
        id
    );
    let error = serde_json::from_str::<JobId>("\"at_inf_01h2xcejqtf2nbrexx3vqjhp41\"").unwrap_err();
    assert!(error.to_string().contains("begins with `job_`"), "{error}");
    assert!(serde_json::from_str::<JobId>("7").is_err());
}

#[test]
fn follow_up_ids_depend_on_the_job_and_the_step_alone() {
    let (job, other) = (JobId::from_uuid(SAMPLE), JobId::new());
    assert_eq!(job.derive("callback"), job.derive("callback"));
    assert_ne!(job.derive("callback"), job.derive("fetch"));
    assert_ne!(job.derive("callback"), other.derive("callback"));
    assert_eq!(job.derive("callback").get_version_num(), 8);
    assert_eq!(job.derive("callback").as_bytes()[..6], job.uuid().as_bytes()[..6]);
}

#[test]
fn the_system_tenant_is_the_nil_uuid_and_a_partner_is_its_own_tenant() {
    assert_eq!(TenantId::SYSTEM.uuid(), Uuid::nil());
    assert_eq!(TenantId::from(PartnerId::from_uuid(SAMPLE)), TenantId::from_uuid(SAMPLE));
    assert_eq!(TenantId::from_uuid(SAMPLE).to_string(), SAMPLE.to_string());
}

proptest! {
    #[test]
    fn every_uuid_survives_the_way_through_text(value: u128) {
        let id = DeliveryId::from_uuid(Uuid::from_u128(value));
        prop_assert_eq!(id.to_string().parse::<DeliveryId>(), Ok(id));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(at_inf_)?.{0,80}") {
        if let Ok(id) = text.parse::<InfluencerId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
