//! What a failed request means: whether to send it again, what to tell the layers above, and what to advise people.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::{StoreError, StoreErrorKind};

/// Whether it helps to send a request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It may: the server is busy, or the network failed.
    Again,
    /// Once: the SDK learns the server's time from its answer.
    Once,
    /// It does not.
    Nothing,
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: StoreErrorKind,
    pub(super) remedy: Remedy,
    /// Whether the condition of a creation was not met: there is an object already.
    pub(super) exists: bool,
    /// What happened, in a line.
    pub(super) what: String,
    /// What to do about it.
    pub(super) advice: Option<&'static str>,
}

impl Failure {
    /// Describes what the network or a server did wrong, so that the request is sent again.
    pub(super) fn transient(what: impl Into<String>) -> Self {
        Self {
            kind: StoreErrorKind::Unavailable,
            remedy: Remedy::Again,
            exists: false,
            what: what.into(),
            advice: None,
        }
    }

    /// Describes what will not change.
    pub(super) fn lasting(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self { kind, remedy: Remedy::Nothing, ..Self::transient(what) }
    }

    /// Makes the error that the layers above see.
    pub(super) fn into_error(self, operation: &'static str, object: String) -> StoreError {
        let error = StoreError::new(self.kind, operation, object, Some(io::Error::other(self.what)));
        match self.advice {
            Some(advice) => error.advise(advice),
            None => error,
        }
    }
}

/// An error code of S3 and what it means.
struct Meaning {
    codes: &'static [&'static str],
    kind: StoreErrorKind,
    remedy: Remedy,
    advice: Option<&'static str>,
}

/// What the codes mean that are not told by the status alone.
const MEANINGS: [Meaning; 13] = [
    Meaning {
        codes: &["NoSuchKey", "NotFound"],
        kind: StoreErrorKind::NotFound,
        remedy: Remedy::Nothing,
        advice: None,
    },
    Meaning {
        codes: &["NoSuchBucket"],
        kind: StoreErrorKind::NotAStore,
        remedy: Remedy::Nothing,
        advice: Some("check the bucket's name and AWS_ENDPOINT_URL; yester makes no buckets"),
    },
    Meaning {
        codes: &["InvalidRange"],
        kind: StoreErrorKind::Truncated,
        remedy: Remedy::Nothing,
        advice: None,
    },
    Meaning {
        codes: &["RequestTimeTooSkewed"],
        kind: StoreErrorKind::Unavailable,
        remedy: Remedy::Once,
        advice: Some(
            "the clock of this machine is wrong by more than 15 minutes: set it, and let NTP keep it",
        ),
    },
    Meaning {
        codes: &["ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException"],
        kind: StoreErrorKind::Denied,
        remedy: Remedy::Nothing,
        advice: Some("the credentials have expired: get new ones, or use a profile that renews them"),
    },
    Meaning {
        codes: &[
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "InvalidSecurity",
            "AuthFailure",
        ],
        kind: StoreErrorKind::Denied,
        remedy: Remedy::Nothing,
        advice: Some("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE and AWS_ENDPOINT_URL"),
    },
    Meaning {
        codes: &["AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden"],
        kind: StoreErrorKind::Denied,
        remedy: Remedy::Nothing,
        advice: Some("give these credentials the right: the guide's chapter on stores has a policy"),
    },
    Meaning {
        codes: &["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"],
        kind: StoreErrorKind::NotAStore,
        remedy: Remedy::Nothing,
        advice: Some("the bucket is in another region: set AWS_REGION to it"),
    },
    Meaning {
        codes: &["QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge"],
        kind: StoreErrorKind::Full,
        remedy: Remedy::Nothing,
        advice: None,
    },
    Meaning {
        codes: &["InvalidStorageClass"],
        kind: StoreErrorKind::Unavailable,
        remedy: Remedy::Nothing,
        advice: Some("this server does not know the storage class: check --storage-class"),
    },
    Meaning {
        codes: &["InvalidObjectState"],
        kind: StoreErrorKind::Denied,
        remedy: Remedy::Nothing,
        advice: Some(
            "the object lies in an archive, where nothing can be read: restore it to a readable class first",
        ),
    },
    Meaning {
        codes: &[
            "SlowDown",
            "RequestTimeout",
            "InternalError",
            "ServiceUnavailable",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "RequestLimitExceeded",
            "ConditionalRequestConflict",
            "OperationAborted",
            "BadDigest",
            "IncompleteBody",
        ],
        kind: StoreErrorKind::Unavailable,
        remedy: Remedy::Again,
        advice: None,
    },
    Meaning {
        codes: &["NotImplemented", "InvalidArgument", "XAmzContentSHA256Mismatch"],
        kind: StoreErrorKind::Unavailable,
        remedy: Remedy::Nothing,
        advice: Some(
            "this server lacks something that AWS has: AWS_REQUEST_CHECKSUM_CALCULATION=when_required leaves \
             checksums out",
        ),
    },
];

/// Says what a failed request means.
pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(credentials) = credentials_error(error) {
        return credentials;
    }
    match error {
        SdkError::ServiceError(service) => {
            of_answer(service.raw().status().as_u16(), service.err().code(), service.err().message())
        }
        SdkError::ResponseError(response) => {
            // A reply that is no answer to what was asked: an error page, or one that was cut short.
            let status = response.raw().status().as_u16();
            Failure::transient(format!("the reply ({status}) cannot be understood: {}", innermost(error)))
        }
        SdkError::DispatchFailure(dispatch) if dispatch.is_user() => {
            Failure::lasting(StoreErrorKind::Unavailable, innermost(error))
        }
        SdkError::ConstructionFailure(_) => Failure::lasting(StoreErrorKind::Unavailable, innermost(error)),
        _ => Failure {
            advice: Some("check the network, AWS_ENDPOINT_URL and AWS_REGION; what was committed is safe"),
            ..Failure::transient(innermost(error))
        },
    }
}

/// Says what an answer means that is an error.
fn of_answer(status: u16, code: Option<&str>, message: Option<&str>) -> Failure {
    let what = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {}", plain(message)),
        (Some(code), None) => code.to_owned(),
        (None, _) => format!("the server answers with status {status}"),
    };
    let meaning = code.and_then(|code| MEANINGS.iter().find(|meaning| meaning.codes.contains(&code)));
    let mut failure = match meaning {
        Some(meaning) => Failure {
            kind: meaning.kind,
            remedy: meaning.remedy,
            exists: false,
            what,
            advice: meaning.advice,
        },
        None => {
            let (kind, remedy) = match status {
                404 => (StoreErrorKind::NotFound, Remedy::Nothing),
                401 | 403 => (StoreErrorKind::Denied, Remedy::Nothing),
                416 => (StoreErrorKind::Truncated, Remedy::Nothing),
                507 => (StoreErrorKind::Full, Remedy::Nothing),
                408 | 409 | 429 | 500.. => (StoreErrorKind::Unavailable, Remedy::Again),
                // An error document inside a reply that says it went well.
                200..300 => (StoreErrorKind::Unavailable, Remedy::Again),
                _ => (StoreErrorKind::Unavailable, Remedy::Nothing),
            };
            let advice = match status {
                401 | 403 => Some("check the credentials and what they may do"),
                301 | 307 | 308 => Some("the bucket is in another region: set AWS_REGION to it"),
                _ => None,
            };
            Failure { kind, remedy, exists: false, what, advice }
        }
    };
    failure.exists = status == 412 || code == Some("PreconditionFailed");
    failure
}

/// Says that no credentials were found, if that is what `error` means.
fn credentials_error(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(credentials) = error.downcast_ref::<CredentialsError>() {
            let why = innermost(credentials);
            return Some(Failure {
                advice: Some(
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for one of ~/.aws/credentials",
                ),
                ..Failure::lasting(StoreErrorKind::Denied, format!("there are no credentials for S3: {why}"))
            });
        }
        next = error.source();
    }
    None
}

/// Returns the cause at the end of the chain, which says most.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    plain(&last.to_string())
}

/// Returns a text from a server that is safe on terminals, and short.
fn plain(text: &str) -> String {
    const MOST: usize = 300;
    let escaped = crate::path::escape(text.as_bytes());
    match escaped.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", escaped.get(..end).unwrap_or_default()),
        None => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_their_meaning() {
        for (status, code, kind, remedy) in [
            (404, Some("NoSuchKey"), StoreErrorKind::NotFound, Remedy::Nothing),
            (404, None, StoreErrorKind::NotFound, Remedy::Nothing),
            (404, Some("NoSuchBucket"), StoreErrorKind::NotAStore, Remedy::Nothing),
            (403, Some("AccessDenied"), StoreErrorKind::Denied, Remedy::Nothing),
            (403, Some("RequestTimeTooSkewed"), StoreErrorKind::Unavailable, Remedy::Once),
            (400, Some("ExpiredToken"), StoreErrorKind::Denied, Remedy::Nothing),
            (503, Some("SlowDown"), StoreErrorKind::Unavailable, Remedy::Again),
            (500, None, StoreErrorKind::Unavailable, Remedy::Again),
            (409, Some("ConditionalRequestConflict"), StoreErrorKind::Unavailable, Remedy::Again),
            (416, Some("InvalidRange"), StoreErrorKind::Truncated, Remedy::Nothing),
            (301, Some("PermanentRedirect"), StoreErrorKind::NotAStore, Remedy::Nothing),
            (400, Some("Unheard"), StoreErrorKind::Unavailable, Remedy::Nothing),
            (200, Some("InternalError"), StoreErrorKind::Unavailable, Remedy::Again),
        ] {
            let failure = of_answer(status, code, Some("why"));
            assert_eq!((failure.kind, failure.remedy), (kind, remedy), "{status} {code:?}");
            assert!(!failure.exists);
        }
        assert!(of_answer(412, Some("PreconditionFailed"), None).exists);
        assert!(of_answer(412, None, None).exists);
    }

    #[test]
    fn messages_of_servers_are_tame() {
        let failure = of_answer(500, Some("InternalError"), Some("\u{1b}[2Jgone\n"));
        assert_eq!(failure.what, r"InternalError: \u{1b}[2Jgone\n");
        assert!(plain(&"x".repeat(10_000)).len() < 400);
    }
}
