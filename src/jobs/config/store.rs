//! The stores of a configuration: where they are, how they are opened, and what is done with them.

use jiff::SignedDuration;

use super::VERIFY_SCHEDULE;
use super::reader::{Item, Section};
use super::secret::KeyPlace;
use super::values;
use crate::human;
use crate::jobs::calendar::Schedule;
use crate::ops::forget::policy::Policy;
use crate::ops::verify::Share;
use crate::store::location::Location;
use crate::store::s3::{S3Access, ServerSideEncryption, parse_storage_class};

/// A store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// What it is called in the configuration, on command lines and in metrics.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// What opens it; nothing leaves it to the environment.
    pub key: Option<KeyPlace>,
    /// The store whose snapshots are copied to it. A store without one is backed up to.
    pub copy_from: Option<String>,
    /// When it is copied to; nothing means after each backup.
    pub schedule: Option<Schedule>,
    /// What is copied to it.
    pub select: Select,
    /// What is kept in it.
    pub keep: Keep,
    /// Whether it may be away, as a disk that is changed is.
    pub removable: bool,
    /// When its garbage is collected; nothing means never.
    pub gc: Option<Schedule>,
    /// How much of it is verified.
    pub verify: Verify,
    /// How a distant one is reached.
    pub network: Network,
}

/// What is kept in a store.
#[derive(Debug, Clone)]
pub enum Keep {
    /// What the policies of the sources say.
    AsSources,
    /// What a policy of the store says of each source.
    Policy(Policy),
    /// All.
    All,
}

/// Which snapshots are copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Select {
    /// Those of these sources; all if there are none.
    pub sources: Vec<String>,
    /// Those that have all of these tags.
    pub tags: Vec<String>,
    /// The last so many of each series.
    pub last: Option<u32>,
}

/// How much of a store is verified, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// The share of the packs; nothing means that no run verifies.
    pub sample: Option<Share>,
    /// When.
    pub schedule: Schedule,
}

/// How a store over a network is reached; a directory takes no notice of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Storage class of packs.
    pub storage_class: Option<String>,
    /// How S3 encrypts objects.
    pub sse: Option<ServerSideEncryption>,
    /// Where its server is, and who asks it.
    pub access: S3Access,
    /// Requests at once.
    pub connections: Option<u16>,
    /// Bytes a second that are sent at most.
    pub limit_upload: Option<u64>,
    /// Bytes a second that are received at most.
    pub limit_download: Option<u64>,
    /// How long to try again what fails or hangs.
    pub timeout: Option<SignedDuration>,
}

/// What holds for a store that says nothing of its own.
pub(super) struct StoreDefaults<'a> {
    pub(super) key: Option<&'a KeyPlace>,
    pub(super) gc: Option<&'a Schedule>,
    pub(super) verify: Option<&'a Verify>,
}

impl StoreConfig {
    pub(super) fn read(name: &str, section: Section<'_>, defaults: &StoreDefaults<'_>) -> Option<Self> {
        if let Err(why) = values::name(name) {
            section.report(why);
        }
        let place = section.item("url");
        if place.is_none() {
            section.report("it needs a url: a directory, or s3://BUCKET/PREFIX");
        }
        let location = place.and_then(|item| item.parse(parse_location));
        let is_distant = location.as_ref().is_some_and(Location::is_distant);
        let store = Self {
            name: name.to_owned(),
            key: KeyPlace::read(&section).or_else(|| defaults.key.cloned()),
            copy_from: section.item("copy-from").and_then(|item| item.parse(values::name)),
            schedule: section.item("schedule").and_then(|item| values::schedule(&item)),
            select: section.item("select").and_then(|item| Select::read(&item)).unwrap_or_default(),
            keep: section.item("keep").map_or(Keep::AsSources, |item| Keep::read(&item)),
            removable: section.item("removable").and_then(|item| item.flag()).unwrap_or_default(),
            gc: values::switchable(section.item("gc"), defaults.gc.cloned(), values::schedule),
            verify: match (section.item("verify"), defaults.verify) {
                (Some(item), _) => Verify::read(&item).unwrap_or_else(|| Verify::usual(is_distant)),
                (None, Some(verify)) => verify.clone(),
                (None, None) => Verify::usual(is_distant),
            },
            network: Network::read(&section, is_distant),
            location: location?,
        };
        section.finish();
        Some(store)
    }
}

impl Keep {
    fn read(item: &Item<'_>) -> Self {
        if item.is_off() { Self::All } else { values::keep(item).map_or(Self::AsSources, Self::Policy) }
    }

    /// Returns the policy that holds for a source, given the source's own; nothing if all is kept.
    #[must_use]
    pub fn or<'a>(&'a self, of_source: Option<&'a Policy>) -> Option<&'a Policy> {
        match self {
            Self::AsSources => of_source,
            Self::Policy(policy) => Some(policy),
            Self::All => None,
        }
    }
}

impl Select {
    fn read(item: &Item<'_>) -> Option<Self> {
        let section = item.section()?;
        let texts = |name| section.item(name).and_then(|item| item.texts()).unwrap_or_default();
        let select = Self {
            sources: texts("sources"),
            tags: texts("tags"),
            last: section.item("last").and_then(|item| item.number(1..=u32::MAX)),
        };
        section.finish();
        Some(select)
    }
}

impl Verify {
    /// Returns what is verified where nobody says otherwise: all of a disk in twenty days, all of what is paid for by
    /// the byte in a hundred.
    fn usual(is_distant: bool) -> Self {
        let millionths = if is_distant { 10_000 } else { 50_000 };
        Self { sample: Share::from_millionths(millionths), schedule: values::fixed(VERIFY_SCHEDULE) }
    }

    /// Reads `"5%"`, `false`, or `{ sample = "5%", schedule = "…" }`.
    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        let schedule = values::fixed(VERIFY_SCHEDULE);
        if item.is_off() {
            return Some(Self { sample: None, schedule });
        }
        if item.is_text() {
            return Some(Self { sample: item.parse(str::parse), schedule });
        }
        let section = item.section()?;
        let sample = section.parse("sample", str::parse);
        let schedule = section.item("schedule").and_then(|item| values::schedule(&item)).unwrap_or(schedule);
        section.finish();
        Some(Self { sample, schedule })
    }
}

impl Network {
    fn read(section: &Section<'_>, is_distant: bool) -> Self {
        let of_s3 = |name: &'static str| {
            let item = section.item(name)?;
            if !is_distant {
                item.report("this is for stores in S3 alone");
            }
            Some(item)
        };
        let text = |name| of_s3(name)?.text().map(str::to_owned);
        let bytes = |name| section.parse(name, human::parse_bytes);
        Self {
            storage_class: of_s3("storage-class").and_then(|item| item.parse(parse_storage_class)),
            sse: of_s3("sse").and_then(|item| item.parse(|text| text.parse().map_err(str::to_owned))),
            access: S3Access {
                endpoint: text("endpoint"),
                region: text("region"),
                profile: text("profile"),
                credentials_file: of_s3("credentials-file").and_then(|item| item.path()),
            },
            connections: section
                .item("connections")
                .and_then(|item| item.number(1..=256))
                .and_then(|number| u16::try_from(number).ok()),
            limit_upload: bytes("limit-upload"),
            limit_download: bytes("limit-download"),
            timeout: section.parse("store-timeout", human::parse_duration),
        }
    }
}

fn parse_location(text: &str) -> Result<Location, String> {
    let location = Location::parse(text.as_ref()).map_err(|error| error.to_string())?;
    match location.directory() {
        // Whoever runs this from elsewhere means the same place.
        Some(_) if !text.starts_with('/') && !text.starts_with("file:") => {
            Err(format!("{text:?} does not begin with /"))
        }
        _ => Ok(location),
    }
}
