//! What stands before the operations: it counts requests, and does to them what the faults tell it to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use s3s::Body;
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::service::S3Service;

use crate::counts::Counts;
use crate::faults::{Fault, Faults};
use crate::reply::{Closed, Mangle, Received, Sent, error_reply};
use crate::request::Request;

/// Where the counts are read, and reset. No bucket can have this name.
const COUNTS_PATH: &str = "/_counts";

/// The server as it looks from a connection.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) service: S3Service,
    pub(crate) faults: Arc<Faults>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) latency: Duration,
}

impl Front {
    /// Answers a request; where it fails, the connection is closed without an answer.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: http::Request<Incoming>,
    ) -> Result<Response<Sent>, Closed> {
        if request.uri().path() == COUNTS_PATH {
            return Ok(self.sent(self.tell_counts(request.method()), None));
        }
        let described = Request::new(request.method(), request.uri(), request.headers());
        let number = self.counts.begin(&described);
        let fault = self.faults.choose(&described);
        self.counts.amend(number, |request| request.fault = fault.as_ref().map(Fault::kind));
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let reply = self.answer_with(request, &described, fault).await?;
        self.counts.amend(number, |request| request.status = Some(reply.status().as_u16()));
        Ok(reply)
    }

    async fn answer_with(
        &self,
        request: http::Request<Incoming>,
        described: &Request,
        fault: Option<Fault>,
    ) -> Result<Response<Sent>, Closed> {
        let (head, body) = request.into_parts();
        let body = Received::new(body, Arc::clone(&self.counts));
        let mut request = http::Request::from_parts(head, Body::http_body(body.clone()));
        let refusal = match &fault {
            Some(Fault::CloseBefore) => return Err(Closed),
            Some(Fault::Hang) => {
                Arc::clone(&self.faults).hang().await;
                None
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(*time).await;
                None
            }
            Some(fault) => refusal(fault, described),
            None => None,
        };
        if let Some(refusal) = refusal {
            body.drain().await;
            return Ok(self.sent(refusal, None));
        }
        if let Some(lie) = fault.as_ref().and_then(Fault::lie) {
            request.extensions_mut().insert(lie);
        }
        let reply = self.service.call(request).await.map_err(|_| Closed)?;
        body.drain().await;
        let mangle = match fault {
            Some(Fault::CloseAfter) => return Err(Closed),
            Some(Fault::CutBody) => Some(Mangle::Cut(None)),
            Some(Fault::FlipBit) => Some(Mangle::Flip),
            Some(Fault::HangInBody) => Some(Mangle::Hang(Box::pin(Arc::clone(&self.faults).hang()))),
            _ => None,
        };
        // Of an answer that tells an error, there is nothing to mangle.
        Ok(self.sent(reply, mangle))
    }

    fn tell_counts(&self, method: &Method) -> Response<Body> {
        let mut reply = Response::new(Body::from(format!("{}\n", self.counts.now())));
        match *method {
            Method::GET => {}
            Method::DELETE => self.counts.reset(),
            _ => *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED,
        }
        reply
    }

    fn sent(&self, reply: Response<Body>, mangle: Option<Mangle>) -> Response<Sent> {
        let mangle = mangle.filter(|_| reply.status().is_success());
        Sent::new(reply, Arc::clone(&self.counts), mangle)
    }
}

/// Returns the answer to a request that is not carried out.
fn refusal(fault: &Fault, request: &Request) -> Option<Response<Body>> {
    match fault {
        Fault::Refuse { status, code, message } => Some(error_reply(*status, code, message, "")),
        Fault::ErrorInOk => {
            let message = "We encountered an internal error. Please try again.";
            Some(error_reply(200, "InternalError", message, ""))
        }
        Fault::Elsewhere(region) => {
            let message = "The bucket you are attempting to access must be addressed using the specified endpoint. \
                           Please send all future requests to this endpoint.";
            let bucket = &request.bucket;
            let endpoint = format!("<Endpoint>s3.{region}.amazonaws.com</Endpoint><Bucket>{bucket}</Bucket>");
            let mut reply = error_reply(301, "PermanentRedirect", message, &endpoint);
            reply.headers_mut().insert("x-amz-bucket-region", HeaderValue::from_static(region));
            Some(reply)
        }
        Fault::ClockSkew => {
            let message = "The difference between the request time and the current time is too large.";
            let mut now = Vec::new();
            let _ = Timestamp::from(SystemTime::now()).format(TimestampFormat::DateTime, &mut now);
            let times = format!(
                "<RequestTime>{}</RequestTime><ServerTime>{}</ServerTime>\
                 <MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>",
                request.header("x-amz-date").unwrap_or_default(),
                String::from_utf8_lossy(&now),
            );
            Some(error_reply(403, "RequestTimeTooSkewed", message, &times))
        }
        _ => None,
    }
}
