//! Bodies on their way: of requests, counted, and of replies, counted and cut, changed or stopped on order.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use s3s::{Body, StdError};
use tokio::time::Sleep;

use crate::counts::Counts;

/// How long the first part of a body is given to leave before the connection is closed.
const ARRIVAL: Duration = Duration::from_millis(5);

/// The body of a request. Clones read on from each other.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    body: Arc<Mutex<Incoming>>,
    counts: Arc<Counts>,
}

impl Received {
    pub(crate) fn new(body: Incoming, counts: Arc<Counts>) -> Self {
        Self { body: Arc::new(Mutex::new(body)), counts }
    }

    /// Reads what nobody has read.
    ///
    /// A client that still sends while it is answered would meet a closed connection instead of the answer.
    pub(crate) async fn drain(mut self) {
        while let Some(Ok(_)) = std::future::poll_fn(|context| Pin::new(&mut self).poll_frame(context)).await
        {
        }
    }
}

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        let polled = Pin::new(&mut *body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.counts.received(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// What happens to the body of a reply, at one of its bytes.
pub(crate) enum Mangle {
    /// It ends there, and the connection with it once the part before has left.
    Cut(Option<Pin<Box<Sleep>>>),
    /// That byte has a wrong bit.
    Flip,
    /// It stops there until this ends.
    Hang(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// The body of a reply.
pub(crate) struct Sent {
    body: Body,
    counts: Arc<Counts>,
    /// What happens, and after how many bytes.
    mangle: Option<(Mangle, usize)>,
    /// The rest of a piece that was cut in two.
    rest: Option<Bytes>,
}

impl Sent {
    /// Takes the body of a reply; what happens to it happens in its middle.
    pub(crate) fn new(reply: Response<Body>, counts: Arc<Counts>, mangle: Option<Mangle>) -> Response<Self> {
        let length = reply.headers().get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|text| text.parse().ok()).or_else(|| reply.body().size_hint().exact());
        let middle = usize::try_from(length.unwrap_or(0) / 2).unwrap_or_default();
        reply.map(|body| Self { body, counts, mangle: mangle.map(|mangle| (mangle, middle)), rest: None })
    }

    fn count(&self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.counts.sent(bytes.len());
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        match &mut self.mangle {
            Some((Mangle::Cut(arrival), 0)) => {
                let arrival = arrival.get_or_insert_with(|| Box::pin(tokio::time::sleep(ARRIVAL)));
                std::task::ready!(arrival.as_mut().poll(context));
                return Poll::Ready(Some(Err(Box::new(Closed))));
            }
            Some((Mangle::Hang(until), 0)) => {
                std::task::ready!(until.as_mut().poll(context));
                self.mangle = None;
            }
            _ => {}
        }
        let next = match self.rest.take() {
            Some(rest) => Some(Ok(Frame::data(rest))),
            None => std::task::ready!(Pin::new(&mut self.body).poll_frame(context)),
        };
        let mut bytes = match next.map(|next| next.map(Frame::into_data)) {
            Some(Ok(Ok(bytes))) => bytes,
            Some(Ok(Err(frame))) => return Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        };
        match self.mangle.take() {
            Some((Mangle::Flip, at)) if at < bytes.len() => {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1;
                bytes = changed.into();
            }
            Some((mangle, at)) if at < bytes.len() => {
                self.rest = Some(bytes.split_off(at));
                self.mangle = Some((mangle, 0));
            }
            Some((mangle, at)) => self.mangle = Some((mangle, at - bytes.len())),
            None => {}
        }
        self.count(bytes)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Says that the connection is to be closed.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the connection is closed as a fault wants it")
    }
}

impl std::error::Error for Closed {}

/// Makes a reply that tells an error, as S3 does; `more` is what its document has besides.
pub(crate) fn error_reply(status: u16, code: &str, message: &str, more: &str) -> Response<Body> {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}\
         <RequestId>4442587FB7D0A2F9</RequestId><HostId>s3-server</HostId></Error>"
    );
    let mut reply = Response::new(Body::from(document));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
    reply
}
