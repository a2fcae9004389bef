//! Connecting to S3: the SDK's own chain of environment, profiles and instance roles says where and as whom.

use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use nix::unistd::{User, geteuid};
use tokio::sync::Semaphore;

use super::{S3Access, S3Options, S3Place, S3Store};
use crate::store::StoreError;
use crate::store::runtime::Runtime;
use crate::store::throttle::Throttle;

/// A connection that is not there by then is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where nobody says a region: other servers mostly do not care, and AWS says which it would have been.
const DEFAULT_REGION: &str = "us-east-1";

impl S3Store {
    /// Gets ready to talk to the bucket. Sends nothing yet, but may ask an instance's metadata service for its region.
    ///
    /// # Errors
    /// Fails if the threads that serve connections cannot be started.
    pub fn connect(place: S3Place, options: S3Options) -> Result<Self, StoreError> {
        let failed = |error| StoreError::from_io("connect to", place.to_string(), error);
        let runtime = Runtime::start().map_err(failed)?;
        let sdk = runtime.wait(load(&options.access)).map_err(failed)?;
        let endpoint = options.access.endpoint.clone().or_else(|| endpoint(&sdk));
        Ok(Self::with(place, options, runtime, &sdk, endpoint))
    }

    /// Makes a store that talks as the SDK's configuration says, to `endpoint` in place of AWS.
    pub(super) fn with(
        place: S3Place,
        options: S3Options,
        runtime: Runtime,
        sdk: &SdkConfig,
        endpoint: Option<String>,
    ) -> Self {
        let checksums = sdk.request_checksum_calculation() != Some(RequestChecksumCalculation::WhenRequired);
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let config = Builder::from(sdk)
            // Names of buckets as parts of host names need DNS that other servers seldom have.
            .force_path_style(endpoint.is_some())
            .timeout_config(timeouts)
            // The store itself sends again, watches for silence, and gives its own checksums.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self {
            client: Client::from_conf(config),
            endpoint,
            checksums,
            runtime,
            connections: Semaphore::new(options.connections.max(1)),
            meter: Arc::default(),
            uploads: options.upload_limit.map(|limit| Arc::new(Throttle::new(limit))),
            downloads: options.download_limit.map(|limit| Arc::new(Throttle::new(limit))),
            told_of_versions: false.into(),
            place,
            options,
        }
    }
}

async fn load(access: &S3Access) -> SdkConfig {
    let files = match &access.credentials_file {
        Some(path) => Some(
            EnvConfigFiles::builder()
                .include_default_config_file(true)
                .with_file(EnvConfigFileKind::Credentials, path)
                .build(),
        ),
        None => files_without_home(),
    };
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(files) = &files {
        profile = profile.profile_files(files.clone());
    }
    if let Some(name) = &access.profile {
        profile = profile.profile_name(name);
    }
    let named = RegionProviderChain::first_try(access.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build());
    // Another server's region is in no instance's metadata, and asking for that takes seconds where there is none.
    let region = match access.endpoint.clone().or_else(endpoint_variable) {
        Some(_) => named,
        None => named.or_default_provider(),
    };
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).region(region.or_else(Region::new(DEFAULT_REGION)));
    if let Some(files) = files {
        loader = loader.profile_files(files);
    }
    if let Some(name) = &access.profile {
        loader = loader.profile_name(name);
    }
    if let Some(endpoint) = &access.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}

/// Returns the files of this user's profiles where the environment does not say whose they are: a mount that fstab or
/// systemd asks for has no `HOME`.
fn files_without_home() -> Option<EnvConfigFiles> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if ["HOME", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"].into_iter().any(is_set) {
        return None;
    }
    let folder = User::from_uid(geteuid()).ok()??.dir.join(".aws");
    let kinds = [(EnvConfigFileKind::Config, "config"), (EnvConfigFileKind::Credentials, "credentials")];
    let there = kinds.into_iter().filter(|(_, name)| folder.join(name).is_file());
    Some(
        there
            .fold(EnvConfigFiles::builder(), |files, (kind, name)| files.with_file(kind, folder.join(name)))
            .build(),
    )
}

/// Returns the server that was configured in place of AWS.
fn endpoint(sdk: &SdkConfig) -> Option<String> {
    endpoint_variable().or_else(|| sdk.endpoint_url().map(str::to_owned))
}

fn endpoint_variable() -> Option<String> {
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}
