//! Whether everything went as it should: pure rules over what was seen.

use serde_json::Value;

use super::list::Row;
use super::submit::{Answer, Outcome};

/// More faults than this are not listed one by one.
const LISTED_MAX: usize = 20;

/// Everything that is not as it should be; empty when all is well.
pub(crate) fn faults(outcomes: &[Outcome], waited: Result<(), String>, nameless: Vec<String>) -> Vec<String> {
    let mut faults: Vec<String> = waited.err().into_iter().chain(nameless).collect();
    for outcome in outcomes {
        if let Err(fault) = check(outcome) {
            faults.push(format!("{}: {fault}", outcome.asked.row.url));
        }
    }
    if faults.len() > LISTED_MAX {
        let more = faults.len() - LISTED_MAX;
        faults.truncate(LISTED_MAX);
        faults.push(format!("and {more} more"));
    }
    faults
}

fn check(outcome: &Outcome) -> Result<(), String> {
    match (&outcome.asked.answer, &outcome.asked.row.profile) {
        (Answer::Accepted(job), Some(_)) => told_as_it_should(job, outcome),
        (Answer::Accepted(_), None) => Err("names no profile, yet was accepted".to_owned()),
        (Answer::Refused(_), None) => Ok(()),
        (Answer::Refused(reason), Some(_)) => Err(format!("names a profile, yet was refused: {reason}")),
        (Answer::Other(answer), _) => Err(format!("was answered {answer}")),
    }
}

fn told_as_it_should(job: &str, outcome: &Outcome) -> Result<(), String> {
    let Some(polled) = &outcome.job else { return Err(format!("{job} cannot be read")) };
    let status = polled["status"].as_str().unwrap_or("nothing");
    let Some(callback) = &outcome.callback else {
        return Err(format!("{job} was not told of; it is {status}{}", last_error(polled)));
    };
    if let Some(fault) = &callback.fault {
        return Err(format!("{job}: its callback: {fault}"));
    }
    let told = callback.body["status"].as_str().unwrap_or("nothing");
    if told != status {
        return Err(format!("{job} was told to be {told}, but is {status}"));
    }
    ended_as_it_should(&outcome.asked.row, &callback.body).map_err(|fault| format!("{job} {fault}"))
}

/// A profile that shows is completed with its values; a missing or private one fails and says so.
fn ended_as_it_should(row: &Row, told: &Value) -> Result<(), String> {
    let status = told["status"].as_str().unwrap_or("nothing");
    if !row.is_shown() {
        return match (status, told["error"]["code"].as_str()) {
            ("failed", Some("NOT_FOUND")) => Ok(()),
            (status, code) => Err(format!("ended {status} ({code:?}) although the profile does not show")),
        };
    }
    let profile = &told["profile"];
    let platform = row.profile.as_ref().map(|profile| profile.platform().as_str());
    if status != "completed" {
        Err(format!("ended {status}: {}", told["error"]["message"].as_str().unwrap_or("no reason was given")))
    } else if profile["platform"].as_str() != platform || !profile["followers"].is_u64() {
        Err(format!("was completed without its profile: {told}"))
    } else {
        Ok(())
    }
}

fn last_error(job: &Value) -> String {
    let last = job["errors"].as_array().and_then(|errors| errors.last());
    let message = last.and_then(|error| error["message"].as_str());
    message.map(|message| format!(", lately: {message}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::super::list::List;
    use super::super::receiver::Callback;
    use super::super::submit::Asked;
    use super::*;

    fn outcome(url: &str, answer: Answer, told: Option<Value>) -> Outcome {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), url).unwrap();
        let row = List::load(Some(file.path())).unwrap().rows.remove(0);
        let job = told.as_ref().map(|told| json!({"status": told["status"], "attempts": 1}));
        let callback = told.map(|body| Callback { at: Instant::now(), id: "dlv".into(), body, fault: None });
        Outcome { asked: Asked { row, at: Instant::now(), answer }, job, callback }
    }

    fn accepted(url: &str, told: Value) -> Result<(), String> {
        check(&outcome(url, Answer::Accepted("job_1".into()), Some(told)))
    }

    #[test]
    fn a_shown_profile_must_be_completed_with_its_values() {
        let profile = json!({"platform": "tiktok", "followers": 5});
        assert_eq!(accepted("tiktok.com/@amy", json!({"status": "completed", "profile": profile})), Ok(()));
        assert!(accepted("tiktok.com/@amy", json!({"status": "completed"})).is_err());
        assert!(
            accepted("tiktok.com/@amy", json!({"status": "failed", "error": {"code": "NOT_FOUND"}})).is_err()
        );
        let missing = json!({"status": "failed", "error": {"code": "NOT_FOUND"}});
        assert_eq!(accepted("tiktok.com/@missing.amy", missing), Ok(()));
    }

    #[test]
    fn only_what_names_no_profile_may_be_refused() {
        let refused = Answer::Refused("a post".into());
        assert_eq!(check(&outcome("nonsense", refused.clone(), None)), Ok(()));
        assert!(check(&outcome("tiktok.com/@amy", refused, None)).is_err());
        assert!(check(&outcome("nonsense", Answer::Accepted("job_1".into()), None)).is_err());
        assert!(check(&outcome("nonsense", Answer::Other("500".into()), None)).is_err());
    }

    #[test]
    fn a_job_that_was_not_told_of_is_a_fault() {
        let silent = outcome("tiktok.com/@amy", Answer::Accepted("job_1".into()), None);
        assert!(check(&silent).is_err());
        assert_eq!(faults(&[silent], Err("1 of 1 jobs".into()), Vec::new()).len(), 2);
    }
}
