//! Room in the pipe from which a stream comes, so that who writes it goes on while what it wrote is compressed.

use std::os::fd::AsFd;

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

/// What a pipe should hold; the most that Linux gives a user who is not root, unless told otherwise. It begins with
/// 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// Has a pipe hold [`PIPE_BYTES`], if it holds less and may. Anything but a pipe stays as it is.
pub fn widen(stream: impl AsFd) {
    let is_narrow = fcntl_getpipe_size(&stream).is_ok_and(|bytes| bytes < PIPE_BYTES);
    if is_narrow && let Err(error) = fcntl_setpipe_size(&stream, PIPE_BYTES) {
        tracing::debug!("the pipe stays as it is: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_widened_and_never_narrowed() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(fcntl_getpipe_size(&reader).unwrap() < PIPE_BYTES);
        widen(&reader);
        assert_eq!(fcntl_getpipe_size(&reader).unwrap(), PIPE_BYTES);
        if fcntl_setpipe_size(&reader, 2 * PIPE_BYTES).is_ok() {
            widen(&reader);
            assert_eq!(fcntl_getpipe_size(&reader).unwrap(), 2 * PIPE_BYTES);
        }
    }

    #[test]
    fn what_is_no_pipe_stays_as_it_is() {
        widen(tempfile::tempfile().unwrap());
    }
}
