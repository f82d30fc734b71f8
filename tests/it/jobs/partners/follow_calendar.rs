//! `partners.follow_calendar`: what the calendar does to subscriptions, told once each to whom it concerns.

use std::time::Duration;

use chrono::TimeDelta;
use jobs::email::SendEmail;
use jobs::partners::FollowCalendar;
use kernel::Email;
use partners::{Contact, NewPartner, SubscriptionTier};
use queue::{JobStatus, NewJob};
use serde_json::{Value, json};

use crate::support::{MailStage, TestPartner};

const LAN: &str = "lan@example.com";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Stage {
    mail: MailStage,
    partner: TestPartner,
}

impl Stage {
    /// With a partner whose subscription ends in 30 days.
    async fn set(auto_renew: bool) -> Self {
        let mail = MailStage::set().await;
        let now = mail.kit.clock.now().await;
        let new = NewPartner {
            contact: Contact { email: Some(Email::parse(LAN).unwrap()), ..Contact::default() },
            starts_at: Some(now),
            ends_at: Some(now + TimeDelta::days(30)),
            auto_renew,
            ..NewPartner::of("techcombank", "Techcombank", SubscriptionTier::Basic)
        };
        let partner = TestPartner::create_with(&mail.kit.db, new).await;
        Self { mail, partner }
    }

    /// Follows the calendar and answers how many steps were taken.
    async fn follow(&self) -> Value {
        self.mail.kit.enqueue(NewJob::of(&FollowCalendar {}).unwrap()).await;
        let job = self.mail.kit.run_one::<FollowCalendar>().await;
        assert_eq!(job.status, JobStatus::Completed, "{job:?}");
        job.result.unwrap()["steps"].clone()
    }

    /// What the partner was mailed since it was last asked.
    async fn subjects(&self) -> Vec<String> {
        self.mail.mail(LAN).await.into_iter().map(|(subject, _)| subject).collect()
    }

    async fn advance(&self, days: u32) {
        self.mail.kit.clock.advance(DAY * days).await;
    }

    async fn status(&self) -> String {
        let query = sqlx::query_scalar!("select status from partner_subscriptions");
        query.fetch_one(self.mail.kit.db.pool()).await.unwrap()
    }

    async fn history(&self) -> Vec<(String, String)> {
        sqlx::query!("select action, changed_by from partner_subscription_changes order by id")
            .fetch_all(self.mail.kit.db.pool())
            .await
            .unwrap()
            .into_iter()
            .map(|row| (row.action, row.changed_by))
            .collect()
    }
}

fn by_calendar(actions: &[&str]) -> Vec<(String, String)> {
    actions.iter().map(|action| (format!("partners.{action}"), "calendar".to_owned())).collect()
}

// S0-073, S0-076, S0-078, S0-122
#[tokio::test]
async fn a_subscription_is_told_of_its_end_works_on_for_seven_days_and_expires_each_told_once() {
    let stage = Stage::set(false).await;
    assert_eq!(stage.follow().await, json!(0));
    for (days, status, subject) in [
        (23, "active", "Your subscription ends on"),
        (7, "grace_period", "Your subscription has ended"),
        (7, "expired", "Your subscription has expired"),
    ] {
        stage.advance(days).await;
        assert_eq!(stage.follow().await, json!(1), "{status}");
        assert_eq!(stage.follow().await, json!(0), "{status}, again");
        assert_eq!(stage.status().await, status);
        let subjects = stage.subjects().await;
        assert!(subjects.len() == 1 && subjects[0].starts_with(subject), "{subjects:?}");
    }
    let events = stage.mail.events().await;
    let types: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(types, ["subscription.expiring", "subscription.grace_period", "subscription.expired"]);
    assert_eq!(
        (&events[2].1["partnerId"], &events[2].1["status"]),
        (&json!("techcombank"), &json!("expired"))
    );
    assert_eq!(stage.history().await, by_calendar(&["begin_grace", "expire"]));
    let partner = stage.partner.id.to_string();
    let log = sqlx::query_scalar!(
        "select action from audit_log where actor = 'calendar' and target = $1 order by id",
        partner
    );
    let log = log.fetch_all(stage.mail.kit.db.pool()).await.unwrap();
    assert_eq!(log, ["partners.tell_of_end", "partners.begin_grace", "partners.expire"]);
}

#[tokio::test]
async fn one_that_renews_itself_goes_on_also_when_nobody_looked_for_long() {
    let stage = Stage::set(true).await;
    stage.advance(24).await;
    assert_eq!(stage.follow().await, json!(1));
    let subjects = stage.subjects().await;
    assert!(subjects[0].starts_with("Your subscription is renewed on"), "{subjects:?}");
    // Two ends have passed.
    stage.advance(40).await;
    assert_eq!(stage.follow().await, json!(2));
    assert_eq!(stage.subjects().await, ["Your subscription was renewed"; 2]);
    assert_eq!(stage.history().await, by_calendar(&["renew", "renew"]));
    let row = sqlx::query!("select status, end_date from partner_subscriptions");
    let row = row.fetch_one(stage.mail.kit.db.pool()).await.unwrap();
    let left = row.end_date.unwrap() - stage.mail.kit.clock.now().await;
    assert_eq!((row.status.as_str(), left.num_days()), ("active", 26));
}

#[tokio::test]
async fn running_twice_tells_once() {
    let stage = Stage::set(false).await;
    stage.advance(24).await;
    stage.mail.kit.enqueue(NewJob::of(&FollowCalendar {}).unwrap()).await;
    assert_eq!(stage.mail.kit.run_twice::<FollowCalendar>().await.status, JobStatus::Completed);
    assert_eq!(stage.mail.kit.enqueued::<SendEmail>().await.len(), 1);
    assert_eq!(stage.subjects().await.len(), 1);
    assert_eq!(stage.mail.events().await.len(), 1);
}
