//! What a search may ask, and what follows from it: values, no I/O.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{ArgIs, IDS_MAX, JobSearch, JobState, Order, SortedBy};
use crate::{JobStatus, dead_letters::words_of};

/// Why a search cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SearchFault {
    /// Arguments are in no index: without a kind and a range of time all jobs would be looked at.
    #[error("an argument can only be asked for together with a kind and a range of time")]
    ArgAlone,
    /// An argument without a place.
    #[error("the path of an argument names one field at least, and sixteen at the most")]
    ArgPath,
    /// Too many ids.
    #[error("at most {IDS_MAX} ids can be asked for at once")]
    TooManyIds,
    /// What is searched cannot be changed as asked: a completed job lives no second time, and what ended is not called off.
    #[error("no job that this can be done to is searched for")]
    NothingToChange,
    /// A cursor that another search gave.
    #[error("the cursor belongs to another search or order")]
    Cursor,
}

/// Fields that a path may go down.
const ARG_DEPTH_MAX: usize = 16;
/// Ids carry the time of the process that made them, which may be ahead of the database's.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(1);
/// And jobs that others led to carry the time of those: so much older may an id be than its job.
const BEHIND_MAX: TimeDelta = TimeDelta::hours(1);

impl JobSearch {
    /// Whether it can be made.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), SearchFault> {
        if let Some(ArgIs { path, .. }) = &self.arg {
            let has_range = self.created_from.is_some() || self.finished_from.is_some();
            if self.kinds.is_empty() || !has_range {
                return Err(SearchFault::ArgAlone);
            }
            if path.is_empty() || path.len() > ARG_DEPTH_MAX {
                return Err(SearchFault::ArgPath);
            }
        }
        if self.ids.len() > IDS_MAX {
            return Err(SearchFault::TooManyIds);
        }
        Ok(())
    }

    /// By what its pages are sorted.
    #[must_use]
    pub fn sorted_by(&self) -> SortedBy {
        let says_which = !self.ids.is_empty() || self.request_id.is_some() || self.batch.is_some();
        let says_when = self.finished_from.is_some() && self.tenant.is_none();
        let by_end = !says_which && self.live_states().is_empty() && (self.wants_dead_alone() || says_when);
        if by_end { SortedBy::Finished } else { SortedBy::Created }
    }

    /// The states of live jobs that can match.
    pub(crate) fn live_states(&self) -> Vec<JobState> {
        let is_about_ends = self.finished_from.is_some()
            || self.finished_before.is_some()
            || self.code.is_some()
            || self.signature.is_some();
        let by_status = |status: &JobStatus| !status.has_ended();
        if is_about_ends || !(self.statuses.is_empty() || self.statuses.iter().any(by_status)) {
            return Vec::new();
        }
        self.wanted().filter(|state| !state.has_ended()).collect()
    }

    /// The ends that can match.
    pub(crate) fn ends(&self) -> Vec<JobState> {
        let is_dead = |state: JobState| matches!(state, JobState::Failed | JobState::Cancelled);
        self.wanted()
            .filter(|state| state.has_ended())
            .filter(|state| (self.code.is_none() && self.signature.is_none()) || is_dead(*state))
            .filter(|state| {
                let status = state.as_str();
                self.statuses.is_empty() || self.statuses.iter().any(|wanted| wanted.as_str() == status)
            })
            .collect()
    }

    /// Whether nothing but failed and cancelled jobs can match.
    pub(super) fn wants_dead_alone(&self) -> bool {
        self.live_states().is_empty() && !self.ends().contains(&JobState::Completed)
    }

    fn wanted(&self) -> impl Iterator<Item = JobState> + '_ {
        JobState::ALL.into_iter().filter(|state| self.states.is_empty() || self.states.contains(state))
    }

    /// As the statements take it: with the states that can match, and what a message of the signature begins with.
    pub(super) fn as_json(&self, states: &[JobState]) -> Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = json.as_object_mut() {
            let words: Vec<Value> = states.iter().map(|state| state.as_str().into()).collect();
            fields.insert("states".into(), words.into());
            fields.insert("ids".into(), self.ids.iter().map(|id| id.uuid().to_string()).collect());
            if let Some(batch) = self.batch {
                fields.insert("batch".into(), batch.uuid().to_string().into());
            }
            if let Some(words) = self.signature.as_deref().map(words_of).filter(|words| !words.is_empty()) {
                fields.insert("messageBegins".into(), words.into());
            }
        }
        json
    }

    /// The ids between which all jobs lie that can match, without both.
    pub(super) fn ids_between(&self) -> (Uuid, Uuid) {
        // What was stored since has ended since, and what ended before was stored before.
        let from = self.created_from.and_then(|from| from.checked_sub_signed(BEHIND_MAX));
        let before = self.created_before.into_iter().chain(self.finished_before).min();
        let before = before.and_then(|before| before.checked_add_signed(AHEAD_MAX));
        let (mut above, before) = (from.map_or(Uuid::nil(), first_id), before.map_or(Uuid::max(), first_id));
        if let Some(least) = self.ids.iter().map(|id| id.uuid()).min() {
            above = above.max(Uuid::from_u128(least.as_u128().saturating_sub(1)));
        }
        (above, before)
    }
}

/// The least id that is made at an instant.
pub(super) fn first_id(at: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or_default().min((1 << 48) - 1);
    Uuid::from_u128(u128::from(millis) << 80)
}

impl Order {
    /// Whether `one` comes before `other`.
    pub(super) fn puts<T: Ord>(self, one: &T, other: &T) -> std::cmp::Ordering {
        match self {
            Self::Newest => other.cmp(one),
            Self::Oldest => one.cmp(other),
        }
    }

    pub(super) const fn is_newest(self) -> bool {
        matches!(self, Self::Newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(states: &[JobState]) -> JobSearch {
        JobSearch { states: states.to_vec(), ..JobSearch::default() }
    }

    fn range() -> JobSearch {
        JobSearch { finished_from: Some(DateTime::UNIX_EPOCH), ..JobSearch::default() }
    }

    #[test]
    fn a_search_is_sorted_by_ends_only_where_an_index_gives_them() {
        let dead = of(&[JobState::Failed, JobState::Cancelled]);
        assert_eq!(dead.sorted_by(), SortedBy::Finished);
        assert_eq!(range().sorted_by(), SortedBy::Finished);
        let coded = JobSearch { code: Some("GONE".into()), ..JobSearch::default() };
        assert_eq!(coded.sorted_by(), SortedBy::Finished);
        for search in [
            JobSearch::default(),
            of(&[JobState::Completed]),
            of(&[JobState::Failed, JobState::Ready]),
            JobSearch { request_id: Some("r".into()), ..dead },
        ] {
            assert_eq!(search.sorted_by(), SortedBy::Created, "{search:?}");
        }
    }

    #[test]
    fn states_and_statuses_both_narrow_what_can_match() {
        let queued = JobSearch { statuses: vec![JobStatus::Queued], ..JobSearch::default() };
        assert_eq!((queued.live_states().len(), queued.ends()), (5, vec![]));
        let failed = JobSearch { statuses: vec![JobStatus::Failed], ..JobSearch::default() };
        assert_eq!((failed.live_states(), failed.ends()), (vec![], vec![JobState::Failed]));
        assert_eq!(range().live_states(), vec![]);
        let none = JobSearch { states: vec![JobState::Ready], ..failed };
        assert_eq!((none.live_states(), none.ends()), (vec![], vec![]));
    }

    #[test]
    fn an_argument_is_asked_for_with_a_kind_and_a_range_alone() {
        let arg = ArgIs { path: vec!["handle".into()], value: "anna".into() };
        let alone = JobSearch { arg: Some(arg.clone()), ..JobSearch::default() };
        assert_eq!(alone.check(), Err(SearchFault::ArgAlone));
        let with_kind = JobSearch { kinds: vec!["a".into()], ..alone };
        assert_eq!(with_kind.check(), Err(SearchFault::ArgAlone));
        let both = JobSearch { created_from: Some(DateTime::UNIX_EPOCH), ..with_kind };
        assert_eq!(both.check(), Ok(()));
        let nowhere = JobSearch { arg: Some(ArgIs { path: vec![], ..arg }), ..both };
        assert_eq!(nowhere.check(), Err(SearchFault::ArgPath));
    }

    #[test]
    fn a_search_survives_being_stored() {
        let search = JobSearch {
            states: vec![JobState::Failed],
            statuses: vec![JobStatus::Failed],
            ids: vec![kernel::ids::JobId::new()],
            tenant: Some(kernel::ids::TenantId::SYSTEM),
            ..range()
        };
        let json = serde_json::to_value(&search).unwrap();
        assert_eq!(serde_json::from_value::<JobSearch>(json).unwrap(), search);
        assert_eq!(serde_json::to_value(JobSearch::default()).unwrap(), serde_json::json!({}));
    }
}
