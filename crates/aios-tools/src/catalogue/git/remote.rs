//! Another repository over the web: git's "smart" protocol through this system's own client, which checks whom it
//! reaches, bounds what it takes, and sends no credentials.

use std::{
    io::{self, BufReader, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gix::protocol::transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use ureq::{
    Body,
    http::{Response, header},
};

use crate::{
    args::WebUrl,
    error::{Code, ToolError},
    http::{Client, Reach},
};

/// Most that is sent at once: names of commits.
const SENT_MAX: usize = 16 << 20;
/// Most that one answer may hold.
pub(super) const RECEIVED_MAX: u64 = 4 << 30;

/// The web as git's library wants it.
pub(super) struct Web {
    client: Client,
    /// What went wrong first, as the library tells only that something did.
    failure: Arc<Mutex<Option<ToolError>>>,
}

/// Makes a request with a body.
type Call = Box<dyn FnOnce(&[u8]) -> Result<Response<Body>, ToolError> + Send>;

/// A request that is made when its answer is read for the first time: the library writes the body after it asked.
struct Exchange {
    call: Option<Call>,
    sent: Vec<u8>,
    headers: io::Cursor<Vec<u8>>,
    body: Option<Box<dyn Read + Send>>,
    failure: Arc<Mutex<Option<ToolError>>>,
}

type Shared = Arc<Mutex<Exchange>>;

/// The headers of an answer, a line each.
pub(super) struct Headers(Shared);
/// The body of an answer.
pub(super) struct Answer(Shared);
/// The body of a request.
pub(super) struct Sent(Shared);

impl Web {
    /// A connection that takes no longer than `time` for one request, and the place where it tells what went wrong.
    pub(super) fn new(reach: Reach, time: Duration) -> (Self, Arc<Mutex<Option<ToolError>>>) {
        let failure = Arc::new(Mutex::new(None));
        (Web { client: Client::new(reach, time), failure: failure.clone() }, failure)
    }

    fn exchange(&self, call: impl FnOnce(&[u8]) -> Result<Response<Body>, ToolError> + Send + 'static) -> Shared {
        Arc::new(Mutex::new(Exchange {
            call: Some(Box::new(call)),
            sent: Vec::new(),
            headers: io::Cursor::new(Vec::new()),
            body: None,
            failure: self.failure.clone(),
        }))
    }
}

impl Http for Web {
    type Headers = BufReader<Headers>;
    type ResponseBody = BufReader<Answer>;
    type PostBody = Sent;

    fn get(
        &mut self,
        url: &str,
        _: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Self::Headers, Self::ResponseBody>> {
        let (client, url, headers) = (self.client.clone(), url.to_owned(), pairs(headers));
        let shared = self.exchange(move |_| {
            let url = address(&url)?;
            let (last, response) = client.get_with(&url, &borrowed(&headers))?;
            successful(&last, response)
        });
        Ok(GetResponse { headers: BufReader::new(Headers(shared.clone())), body: BufReader::new(Answer(shared)) })
    }

    fn post(
        &mut self,
        url: &str,
        _: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        let (client, url, headers) = (self.client.clone(), url.to_owned(), pairs(headers));
        let shared = self.exchange(move |body| {
            let url = address(&url)?;
            let response = client.post(&url, &borrowed(&headers), body)?;
            successful(&url, response)
        });
        Ok(PostResponse {
            post_body: Sent(shared.clone()),
            headers: BufReader::new(Headers(shared.clone())),
            body: BufReader::new(Answer(shared)),
        })
    }

    fn configure(&mut self, _: &dyn std::any::Any) -> gix::Result<()> {
        Ok(())
    }
}

impl Exchange {
    /// Makes the request, the first time.
    fn answer(&mut self) -> io::Result<()> {
        let Some(call) = self.call.take() else { return Ok(()) };
        let response = call(&self.sent).map_err(|error| {
            locked(&self.failure).get_or_insert_with(|| error.clone());
            io::Error::other(error)
        })?;
        let mut headers = Vec::new();
        for (name, value) in response.headers() {
            headers.extend_from_slice(name.as_str().as_bytes());
            headers.extend_from_slice(b": ");
            headers.extend_from_slice(value.as_bytes());
            headers.push(b'\n');
        }
        self.headers = io::Cursor::new(headers);
        let body = response.into_body().into_with_config().limit(RECEIVED_MAX).reader();
        self.body = Some(Box::new(body));
        Ok(())
    }
}

/// A lock whose holder panicked holds an exchange that is of no more use to that one; it is whole all the same.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut exchange = locked(&self.0);
        exchange.answer()?;
        exchange.headers.read(buffer)
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut exchange = locked(&self.0);
        exchange.answer()?;
        exchange.body.as_mut().map_or(Ok(0), |body| body.read(buffer))
    }
}

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut exchange = locked(&self.0);
        if exchange.sent.len() + bytes.len() > SENT_MAX {
            return Err(io::Error::other("more than 16 MiB to send"));
        }
        exchange.sent.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn address(url: &str) -> Result<WebUrl, ToolError> {
    WebUrl::try_from(url.to_owned()).map_err(|error| ToolError::new(Code::InvalidArgument, error))
}

/// Names and values of header lines.
fn pairs(headers: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<(String, String)> {
    let split =
        |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    headers.into_iter().filter_map(|line| split(line.as_ref())).collect()
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn successful(url: &WebUrl, response: Response<Body>) -> Result<Response<Body>, ToolError> {
    let status = response.status();
    if status == 200 {
        return Ok(response);
    }
    let (code, why) = match status.as_u16() {
        401 | 403 => (Code::PermissionDenied, "it wants credentials, and none are sent"),
        404 => (Code::NotFound, "there is no repository"),
        300..=399 => (Code::FailedPrecondition, "it leads on to another address"),
        _ => (Code::Unavailable, "it does not serve the repository"),
    };
    let location = response.headers().get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let location = location.map(|location| format!(" ({location})")).unwrap_or_default();
    Err(ToolError::new(code, format!("{url} answers with {status}: {why}{location}")))
}
