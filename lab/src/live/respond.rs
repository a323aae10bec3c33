//! Answers requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::action::Action;
use super::connections::Connections;
use super::frame::Reading;
use super::guard::{Guard, random_token};
use super::page;
use super::shared::{Latest, Shared};
use super::text::Text;
use super::trainer::{Request, What};

/// The most bytes of a body.
const BODY: usize = 64 << 10;
/// The most time for a body to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// The most time that a request waits for the step under way.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most pages at once.
const PAGES: usize = 16;
/// How often a stream without news sends a sign of life.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) type Answer = Response<Either<Full<Bytes>, Channel<Bytes>>>;

/// What all requests share.
pub(super) struct Site {
    pub guard: Guard,
    pub shared: Shared,
    /// Requests to the trainer. `None` if a program of the user's own trains: it takes none.
    pub requests: Option<SyncSender<Request>>,
    /// The shown digits, in JSON.
    pub pictures: String,
    pub connections: Connections,
    pub pages: Arc<AtomicUsize>,
}

/// A refusal: a status and a sentence.
struct Refusal(StatusCode, Text);

impl Site {
    /// Answers a request on the connection of this number.
    pub async fn respond(
        self: Arc<Self>,
        connection: u64,
        request: HttpRequest<Incoming>,
    ) -> Result<Answer, Infallible> {
        let answer = self.answer(connection, request).await;
        let mut answer = answer.unwrap_or_else(|Refusal(status, text)| {
            let mut answer = json(&serde_json::json!({ "error": text }));
            *answer.status_mut() = status;
            answer
        });
        let headers = answer.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
            .entry(header::CONTENT_SECURITY_POLICY)
            .or_insert(HeaderValue::from_static(
                "default-src 'none'; frame-ancestors 'none'",
            ));
        Ok(answer)
    }

    async fn answer(
        &self,
        connection: u64,
        request: HttpRequest<Incoming>,
    ) -> Result<Answer, Refusal> {
        let forbidden = |text| Refusal(StatusCode::FORBIDDEN, text);
        self.guard.check(request.headers()).map_err(forbidden)?;
        let path = request.uri().path().to_owned();
        let allowed = match &*path {
            "/" | "/events" | "/file" => Method::GET,
            "/act" | "/read" => Method::POST,
            _ => {
                return Err(Refusal(
                    StatusCode::NOT_FOUND,
                    Text::new(
                        "there is nothing at this address",
                        "이 주소에는 아무것도 없습니다",
                    ),
                ));
            }
        };
        if *request.method() != allowed {
            return Err(Refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                Text::new(
                    format!("`{path}` takes {allowed} requests only"),
                    format!("`{path}`는 {allowed} 요청만 받습니다"),
                ),
            ));
        }
        if path == "/" {
            return self.page();
        }
        let query = request.uri().query();
        self.guard
            .check_token(request.headers(), query)
            .map_err(forbidden)?;
        self.connections.known(connection);
        match &*path {
            "/events" => self.events(),
            "/file" => Ok(self.file()),
            "/act" => {
                let action = Action::parse(&body(request).await?).map_err(bad)?;
                self.ask(What::Act(action)).await?;
                let mut done = Response::new(Either::Left(Full::default()));
                *done.status_mut() = StatusCode::NO_CONTENT;
                Ok(done)
            }
            _ => {
                let digit: Digit =
                    serde_json::from_slice(&body(request).await?).map_err(|error| {
                        bad(Text::new(
                            format!("the request is no digit: {error}"),
                            format!("요청을 숫자 그림으로 읽을 수 없습니다: {error}"),
                        ))
                    })?;
                let answers = self.ask(What::Read(digit.pixels)).await?;
                Ok(json(&serde_json::json!({ "answers": answers })))
            }
        }
    }

    fn page(&self) -> Result<Answer, Refusal> {
        let nonce = random_token().map_err(|error| {
            Refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                Text::new(
                    format!("the system has no random numbers: {error}"),
                    format!("시스템에서 난수를 얻을 수 없습니다: {error}"),
                ),
            )
        })?;
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
             img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let mut answer = html(page::live(&nonce, &self.guard.token));
        let policy = HeaderValue::from_str(&policy).expect("a nonce is in hexadecimal");
        answer
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
        Ok(answer)
    }

    /// A page that plays the recording.
    fn file(&self) -> Answer {
        let feed = self.shared.feed.borrow().clone();
        let state = feed.state.json.unwrap_or_else(|| "{}".into());
        let state = self.with_pictures(&state);
        let recording = self
            .shared
            .with_recording(|recording| recording.json(&state));
        let mut answer = html(page::playback(&recording));
        answer.headers_mut().insert(
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"live-lab.html\""),
        );
        answer
    }

    /// The state with the digits that the page shows.
    fn with_pictures(&self, state: &str) -> String {
        match state.strip_prefix('{') {
            Some(rest) if rest.len() > 1 => format!("{{\"digits\":{},{rest}", self.pictures),
            _ => state.to_owned(),
        }
    }

    /// A stream of what is published. It skips what it is too slow for.
    fn events(&self) -> Result<Answer, Refusal> {
        let page = Page::new(&self.pages).ok_or_else(|| {
            Refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                Text::new(
                    format!("{PAGES} pages look on already; close one"),
                    format!("이미 {PAGES}개의 페이지가 보고 있습니다. 하나를 닫으세요"),
                ),
            )
        })?;
        let (mut sender, body) = Channel::new(1);
        let mut feed = self.shared.feed.subscribe();
        let pictures = self.pictures.clone();
        let earlier = self.shared.with_recording(|recording| recording.frames());
        tokio::spawn(async move {
            let _page = page;
            let first = feed.borrow_and_update().clone();
            let mut sent = [first.state.number, 0, first.error.number];
            if let Some(state) = &first.state.json {
                let digits = format!("{{\"digits\":{pictures},");
                let state = state.replacen('{', &digits, 1);
                if sender.send_data(event("state", &state)).await.is_err() {
                    return;
                }
            }
            for frame in earlier {
                if sender.send_data(event("frame", &frame)).await.is_err() {
                    return;
                }
            }
            loop {
                let now = feed.borrow_and_update().clone();
                let news = [
                    ("state", now.state),
                    ("frame", now.frame),
                    ("error", now.error),
                ];
                for ((name, Latest { number, json }), sent) in news.into_iter().zip(&mut sent) {
                    if number == *sent {
                        continue;
                    }
                    *sent = number;
                    if let Some(json) = json
                        && sender.send_data(event(name, &json)).await.is_err()
                    {
                        return;
                    }
                }
                match timeout(ALIVE, feed.changed()).await {
                    Ok(Ok(())) => (),
                    // The lab has ended.
                    Ok(Err(_)) => return,
                    Err(_) => {
                        let alive = Bytes::from_static(b": here\n\n");
                        if sender.send_data(alive).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        let mut answer = Response::new(Either::Right(body));
        let kind = HeaderValue::from_static("text/event-stream");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(answer)
    }

    /// Asks the trainer.
    async fn ask(&self, what: What) -> Result<Vec<Reading>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let busy = |en: &str, ko: &str| Refusal(StatusCode::SERVICE_UNAVAILABLE, Text::new(en, ko));
        let requests = self.requests.as_ref().ok_or_else(|| {
            Refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                Text::new(
                    "this page shows a program's own network; it can only look on",
                    "이 페이지는 프로그램이 직접 학습하는 신경망을 보여 주기만 합니다",
                ),
            )
        })?;
        match requests.try_send(Request { what, reply }) {
            Ok(()) => (),
            Err(TrySendError::Full(_)) => {
                return Err(busy(
                    "too many requests wait for the next step; ask again in a moment",
                    "다음 스텝을 기다리는 요청이 너무 많습니다. 잠시 뒤에 다시 하세요",
                ));
            }
            Err(TrySendError::Disconnected(_)) => {
                return Err(busy("the lab has ended", "실험실이 끝났습니다"));
            }
        }
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer.map_err(bad),
            Err(_) => Err(busy(
                "the step that is under way takes too long; ask again in a moment",
                "지금 진행 중인 스텝이 너무 오래 걸립니다. 잠시 뒤에 다시 하세요",
            )),
            Ok(Err(_)) => Err(busy(
                "this failed, and the bench started again",
                "실패하여 처음부터 다시 시작했습니다",
            )),
        }
    }
}

/// A drawn digit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Digit {
    pixels: Vec<f32>,
}

/// An open page, counted.
struct Page(Arc<AtomicUsize>);

impl Page {
    fn new(pages: &Arc<AtomicUsize>) -> Option<Self> {
        let page = Self(pages.clone());
        // Counted first: the one too many takes itself away.
        (pages.fetch_add(1, Ordering::Relaxed) < PAGES).then_some(page)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn bad(text: Text) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, text)
}

/// The body of a request.
async fn body(request: HttpRequest<Incoming>) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            Text::new(
                format!("a request has at most {BODY} bytes"),
                format!("요청은 {BODY}바이트까지입니다"),
            ),
        )
    };
    let body = request.into_body();
    if body.size_hint().lower() > BODY as u64 {
        return Err(too_large());
    }
    match timeout(ARRIVAL, Limited::new(body, BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(bad(Text::new(
            format!("the request did not arrive in one piece: {error}"),
            format!("요청이 온전히 도착하지 않았습니다: {error}"),
        ))),
        Err(_) => Err(Refusal(
            StatusCode::REQUEST_TIMEOUT,
            Text::new(
                format!("the request did not arrive within {} s", ARRIVAL.as_secs()),
                format!("요청이 {}초 안에 도착하지 않았습니다", ARRIVAL.as_secs()),
            ),
        )),
    }
}

fn event(name: &str, json: &str) -> Bytes {
    format!("event: {name}\ndata: {json}\n\n").into()
}

fn html(text: String) -> Answer {
    content(text, "text/html; charset=utf-8")
}

fn json(value: &serde_json::Value) -> Answer {
    content(value.to_string(), "application/json")
}

fn content(text: String, kind: &'static str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(text)));
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
