//! Who is meant: reading a profile's address, and the vendor's opaque ids.
//!
//! The id of a profile carries the platform and the name inside it. So any id the sandbox ever gave out still works
//! after a restart, without remembering anything. Nobody else may rely on that: to callers an id is opaque.

use kernel::Platform;
use percent_encoding::percent_decode_str;
use url::Url;

const NAME_BYTES_MAX: usize = 200;
const ID_PREFIX: &str = "vb_prof_";

/// A creator on one platform. Two addresses of the same creator give equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Creator {
    pub(crate) platform: Platform,
    pub(crate) name: Name,
}

/// The ways a platform names a creator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A handle in lower case, without `@`. YouTube's old `/c/` and `/user/` names mean the same creator as the handle.
    Handle(String),
    /// An id that the platform gave: a YouTube channel or a numbered Facebook profile. Letter case matters.
    Id(String),
}

/// What the vendor can see of a creator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Public,
    Private,
    Missing,
}

impl Creator {
    /// Reads an address. `None` when it is not a profile of one of the four platforms.
    pub(crate) fn from_url(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let platform = platform_of(url.host_str()?)?;
        let path: Vec<String> = url
            .path_segments()?
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_decode_str(segment).decode_utf8().map(String::from))
            .collect::<Result<_, _>>()
            .ok()?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let name = match (platform, path.as_slice()) {
            (Platform::Tiktok | Platform::Youtube, [first, ..]) if first.starts_with('@') => {
                Name::Handle(first.trim_start_matches('@').to_lowercase())
            }
            (Platform::Youtube, ["channel", id, ..]) => Name::Id((*id).to_owned()),
            (Platform::Youtube, ["c" | "user", name, ..]) => Name::Handle(name.to_lowercase()),
            (Platform::Facebook, ["profile.php", ..]) => {
                Name::Id(url.query_pairs().find(|(key, _)| key == "id")?.1.into_owned())
            }
            (Platform::Facebook, ["people", _, id, ..]) => Name::Id((*id).to_owned()),
            (Platform::Instagram | Platform::Facebook, [name, ..]) => Name::Handle(name.to_lowercase()),
            _ => return None,
        };
        Self::new(platform, name)
    }

    /// Reads an id made by [`Creator::profile_id`]. `None` for ids that were never given out.
    pub(crate) fn from_profile_id(id: &str) -> Option<Self> {
        let bytes = unhex(id.strip_prefix(ID_PREFIX)?)?;
        let (code, name) = bytes.split_first_chunk::<2>()?;
        let platform =
            Platform::ALL.into_iter().find(|platform| code[0] == platform.as_str().as_bytes()[0])?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let name = match code[1] {
            b'@' => Name::Handle(name),
            b'#' => Name::Id(name),
            _ => return None,
        };
        Self::new(platform, name)
    }

    fn new(platform: Platform, name: Name) -> Option<Self> {
        let creator = Self { platform, name };
        let text = creator.handle();
        let plausible = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '@' || c == '/');
        plausible.then_some(creator)
    }

    /// The vendor's id of this creator's profile.
    pub(crate) fn profile_id(&self) -> String {
        let kind = match self.name {
            Name::Handle(_) => b'@',
            Name::Id(_) => b'#',
        };
        let bytes = [&[self.platform.as_str().as_bytes()[0], kind], self.handle().as_bytes()].concat();
        bytes.iter().fold(ID_PREFIX.to_owned(), |id, byte| id + &format!("{byte:02x}"))
    }

    /// The name by which calls are counted and faults are aimed: the handle in lower case without `@`, or the id.
    pub(crate) fn handle(&self) -> &str {
        match &self.name {
            Name::Handle(text) | Name::Id(text) => text,
        }
    }

    /// What the vendor can see of this creator; the beginning of the handle decides.
    pub(crate) fn standing(&self) -> Standing {
        match self.handle() {
            handle if handle.starts_with("private") => Standing::Private,
            handle if handle.starts_with("missing") => Standing::Missing,
            _ => Standing::Public,
        }
    }
}

fn platform_of(host: &str) -> Option<Platform> {
    let host = ["www.", "m."].iter().find_map(|prefix| host.strip_prefix(prefix)).unwrap_or(host);
    match host {
        "tiktok.com" => Some(Platform::Tiktok),
        "youtube.com" => Some(Platform::Youtube),
        "instagram.com" => Some(Platform::Instagram),
        "facebook.com" | "fb.com" => Some(Platform::Facebook),
        _ => None,
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_creator_mean_the_same_profile() {
        let handle = Creator::from_url("https://www.youtube.com/@MKBHD").unwrap();
        assert_eq!(handle.handle(), "mkbhd");
        for other in ["https://youtube.com/c/mkbhd", "https://m.youtube.com/user/MKBHD/videos"] {
            assert_eq!(Creator::from_url(other).unwrap(), handle);
        }
        assert_eq!(
            Creator::from_url("https://www.facebook.com/profile.php?id=1000"),
            Creator::from_url("https://www.facebook.com/people/Someone/1000/")
        );
    }

    #[test]
    fn an_id_leads_back_to_the_creator_it_was_given_for() {
        for url in [
            "https://www.tiktok.com/@amy.codes",
            "https://www.youtube.com/channel/UCX6OQ3DkcsbYNE6H8uQQuVA",
            "https://www.instagram.com/b%C3%A9n%C3%A9dicte",
            "https://www.facebook.com/%E6%9D%8E%E5%AD%90%E6%9F%92",
            "https://www.facebook.com/profile.php?id=100044",
        ] {
            let creator = Creator::from_url(url).unwrap();
            assert_eq!(Creator::from_profile_id(&creator.profile_id()), Some(creator));
        }
    }

    #[test]
    fn what_is_not_a_profile_is_not_understood() {
        for url in [
            "https://example.com/@amy",
            "https://www.tiktok.com/",
            "https://www.youtube.com/watch?v=1",
            "amy",
        ] {
            assert_eq!(Creator::from_url(url), None, "{url}");
        }
        for id in ["", "vb_prof_", "vb_prof_74", "vb_prof_zz", "vb_prof_7440f", "at_inf_7440"] {
            assert_eq!(Creator::from_profile_id(id), None, "{id}");
        }
    }
}
