//! A server in threads of its own.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::counts::Counts;
use crate::faults::Faults;
use crate::front::Front;
use crate::objects::Objects;
use crate::rights::{Rights, Users};
use crate::storage::{Listing, Overwrite, Storage, StorageError};

/// The access key of a user who may do everything.
pub const ACCESS_KEY: &str = "AKIDOFTHETESTS";

/// The secret key of that user.
pub const SECRET_KEY: &str = "the secret key of the tests";

/// The region of the server. It takes any other, too.
pub const REGION: &str = "us-east-1";

/// Threads of a server: more than cores, since they wait for the disk at times.
const THREADS: usize = 4;

/// How a server is to run.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Where the buckets are; a temporary folder if none is given.
    pub folder: Option<PathBuf>,
    /// Where it listens; a free port of 127.0.0.1 if nothing is given.
    pub listen: Option<SocketAddr>,
    /// How long each request waits before anything is done.
    pub latency: Duration,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    // Nothing while it is dropped.
    runtime: Option<Runtime>,
    address: SocketAddr,
    storage: Arc<Storage>,
    users: Users,
    faults: Arc<Faults>,
    counts: Arc<Counts>,
    _folder: Option<TempDir>,
}

impl Server {
    /// Starts a server in a temporary folder on a free port, with one bucket.
    ///
    /// # Errors
    /// Fails if there is no folder, no port or no thread to be had.
    pub fn start(bucket: &str) -> io::Result<Self> {
        let server = Self::start_with(&ServerOptions::default())?;
        server.create_bucket(bucket)?;
        Ok(server)
    }

    /// Starts a server.
    ///
    /// # Errors
    /// Fails if the folder or the port cannot be used.
    pub fn start_with(options: &ServerOptions) -> io::Result<Self> {
        let temporary =
            if options.folder.is_none() { Some(TempDir::with_prefix("s3-server-")?) } else { None };
        let folder =
            options.folder.as_deref().or(temporary.as_ref().map(TempDir::path)).unwrap_or(".".as_ref());
        let storage = Arc::new(Storage::open(folder)?);
        let users = Users::default();
        users.set(ACCESS_KEY, SECRET_KEY, Rights::all());
        let mut service = S3ServiceBuilder::new(Objects(Arc::clone(&storage)));
        service.set_auth(users.clone());
        service.set_access(users.clone());
        let (faults, counts) = (Arc::new(Faults::new()), Arc::new(Counts::default()));
        let front = Arc::new(Front {
            service: service.build(),
            faults: Arc::clone(&faults),
            counts: Arc::clone(&counts),
            latency: options.latency,
        });
        let listener = TcpListener::bind(options.listen.unwrap_or(([127, 0, 0, 1], 0).into()))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        runtime.spawn(accept(listener, front));
        Ok(Self { runtime: Some(runtime), address, storage, users, faults, counts, _folder: temporary })
    }

    /// Returns its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the environment of a client that may do everything and has no other configuration.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Returns what goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Returns what it was asked for.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Adds a user, or changes one's secret key and rights.
    pub fn set_user(&self, access_key: &str, secret_key: &str, rights: Rights) {
        self.users.set(access_key, secret_key, rights);
    }

    /// Changes the rights of the user who can do everything.
    pub fn set_rights(&self, rights: Rights) {
        self.users.set(ACCESS_KEY, SECRET_KEY, rights);
    }

    /// Creates a bucket, if it is not there.
    ///
    /// # Errors
    /// Fails if its folder cannot be made.
    pub fn create_bucket(&self, name: &str) -> io::Result<()> {
        self.storage.create_bucket(name).map(drop)
    }

    /// Returns the keys of a bucket that begin so, past all faults and rights.
    ///
    /// # Errors
    /// Fails if there is no such bucket.
    pub fn keys(&self, bucket: &str, prefix: &str) -> io::Result<Vec<String>> {
        let all = Listing { prefix, after: "", limit: usize::MAX - 1, changes_ago: 0 };
        let (objects, _) = self.storage.list(bucket, &all).map_err(told)?;
        Ok(objects.into_iter().map(|(key, _)| key).collect())
    }

    /// Returns an object's bytes, past all faults and rights.
    ///
    /// # Errors
    /// Fails if it is not there.
    pub fn read(&self, bucket: &str, key: &str) -> io::Result<Vec<u8>> {
        let (_, mut file) = self.storage.open_object(bucket, key).map_err(told)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Puts an object in the place of what is there, past all faults and rights.
    ///
    /// # Errors
    /// Fails if there is no such bucket, or it cannot be written.
    pub fn write(&self, bucket: &str, key: &str, bytes: &[u8]) -> io::Result<()> {
        let mut upload = self.storage.upload()?;
        upload.file.write_all(bytes)?;
        self.storage.commit(bucket, key, upload, Overwrite::Always, |_| {}).map(drop).map_err(told)
    }

    /// Deletes an object, past all faults and rights.
    ///
    /// # Errors
    /// Fails if there is no such bucket.
    pub fn delete(&self, bucket: &str, key: &str) -> io::Result<()> {
        self.storage.delete(bucket, key).map_err(told)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Requests that hang would be waited for.
            runtime.shutdown_background();
        }
    }
}

fn told(error: StorageError) -> io::Error {
    match error {
        StorageError::Io(error) => error,
        error => io::Error::other(format!("{error:?}")),
    }
}

async fn accept(listener: TcpListener, front: Arc<Front>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No file descriptor is left: one may be soon.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let front = Arc::clone(&front);
        let service = service_fn(move |request| Arc::clone(&front).answer(request));
        let mut connection = http1::Builder::new();
        connection.timer(TokioTimer::new());
        // Ends with an error where a fault closed it, and where the client did.
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}
