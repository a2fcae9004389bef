//! Who may do what: pairs of access key and secret key, each with its rights.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::request::{Operation, Request};

/// What the holder of an access key may do: everything, but for what was taken away.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    denied: Vec<(Operation, String)>,
}

impl Rights {
    /// Every right.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Reading alone.
    #[must_use]
    pub fn read_only() -> Self {
        Self::all().without(Operation::Put).without(Operation::Delete).without(Operation::CreateBucket)
    }

    /// Takes the right to do something away.
    #[must_use]
    pub fn without(self, operation: Operation) -> Self {
        self.without_under(operation, "")
    }

    /// Takes the right away to do something to the keys that begin so, or to list them.
    #[must_use]
    pub fn without_under(mut self, operation: Operation, prefix: &str) -> Self {
        self.denied.push((operation, prefix.to_owned()));
        self
    }

    fn allow(&self, operation: Operation, key: &str) -> bool {
        // At AWS one right is for both, each time.
        !self
            .denied
            .iter()
            .any(|(denied, prefix)| denied.right() == operation.right() && key.starts_with(prefix.as_str()))
    }
}

/// Everybody whom the server knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users(Arc<RwLock<HashMap<String, User>>>);

#[derive(Debug)]
struct User {
    secret_key: SecretKey,
    rights: Rights,
}

/// Says that whoever made a request may learn which keys there are.
///
/// S3 answers others with `AccessDenied` instead of `NoSuchKey`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MayList(pub(crate) bool);

impl Users {
    /// Adds a user, or changes one.
    pub(crate) fn set(&self, access_key: &str, secret_key: &str, rights: Rights) {
        let user = User { secret_key: secret_key.into(), rights };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(access_key.to_owned(), user);
    }

    fn with<T>(&self, access_key: &str, ask: impl FnOnce(&User) -> T) -> S3Result<T> {
        let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let message = "The AWS Access Key Id you provided does not exist in our records.";
        users
            .get(access_key)
            .map(ask)
            .ok_or_else(|| S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, message))
    }
}

#[async_trait::async_trait]
impl S3Auth for Users {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.with(access_key, |user| user.secret_key.clone())
    }
}

#[async_trait::async_trait]
impl S3Access for Users {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(access_key) = context.credentials().map(|pair| pair.access_key.clone()) else {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        };
        let request = Request::new(context.method(), context.uri(), context.headers());
        let (operation, key) = (request.operation, request.key.as_str());
        let (allowed, may_list) = self.with(&access_key, |user| {
            (user.rights.allow(operation, key), user.rights.allow(Operation::List, key))
        })?;
        if !allowed {
            let right = operation.right();
            let resource = format!("arn:aws:s3:::{}/{key}", request.bucket);
            return Err(s3_error!(
                AccessDenied,
                "User: {access_key} is not authorized to perform: {right} on resource: {resource} because no \
                 identity-based policy allows the {right} action"
            ));
        }
        context.extensions_mut().insert(MayList(may_list));
        Ok(())
    }
}
