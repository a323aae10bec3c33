//! The server, through sockets: what it gives its page, and what it refuses everybody else.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use burn_kindling_lab::device;
use burn_kindling_lab::live::{Live, LiveConfig, LiveError};
use serde_json::{Value, json};

use super::{config, network, small};

fn live() -> Live {
    live_at("127.0.0.1:0").expect("the lab starts")
}

fn live_at(address: &str) -> Result<Live, LiveError> {
    Live::start(LiveConfig {
        data: small(),
        data_name: "MNIST".into(),
        device: device::open("flex").expect("the CPU"),
        address: address.parse().expect("an address"),
        bench: config([network(), network()]),
    })
}

/// Status, head and body of a response that ends with its connection.
pub fn send(address: SocketAddr, request: &str, body: &[u8]) -> io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    // The server may answer and close before all of it has arrived.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|it| it.parse().ok())
        .unwrap_or(0);
    Ok((status, head.to_owned(), body.to_owned()))
}

/// A request of the lab's own page.
pub fn ask(live: &Live, method: &str, path: &str, body: &Value) -> (u16, String, String) {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let address = live.address();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nX-Token: {}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        live.token(),
        body.len()
    );
    send(address, &request, body.as_bytes()).expect("the server answers")
}

fn act(live: &Live, what: Value) -> (u16, Value) {
    let (status, _, body) = ask(live, "POST", "/act", &what);
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// The events of a page.
pub struct Events(BufReader<TcpStream>);

impl Events {
    pub fn open(live: &Live) -> Self {
        let stream = TcpStream::connect(live.address()).expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        let request = format!(
            "GET /events?token={} HTTP/1.1\r\nHost: {}\r\n\r\n",
            live.token(),
            live.address()
        );
        (&stream)
            .write_all(request.as_bytes())
            .expect("the server reads");
        Self(BufReader::new(stream))
    }

    /// The next event: its name and its data.
    pub fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        let start = Instant::now();
        loop {
            // The server says now and then that it is still there.
            assert!(start.elapsed() < Duration::from_secs(20), "no event");
            let mut line = String::new();
            assert!(
                self.0.read_line(&mut line).expect("an event comes") > 0,
                "the stream ended"
            );
            // Chunks have lines of their own.
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).expect("an event is JSON"));
            }
        }
    }

    /// The data of the next event of this name that is as wanted.
    pub fn find(&mut self, wanted: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let (name, data) = self.next();
            if name == wanted && is(&data) {
                return data;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no such {wanted}"
            );
        }
    }
}

/// The lab still does what its page asks for.
fn assert_well(live: &Live) {
    let (status, _, body) = ask(live, "GET", "/", &Value::Null);
    assert_eq!(status, 200);
    assert!(body.contains(live.token()));
    let (status, _) = act(live, json!({"do": "pause"}));
    assert_eq!(status, 204);
}

#[test]
fn a_page_sees_the_state_and_then_frames() {
    let live = live();
    let mut events = Events::open(&live);
    let (name, state) = events.next();
    assert_eq!(name, "state");
    assert_eq!(state["ids"], json!([1, 2]));
    assert_eq!(state["data"], "MNIST");
    assert_eq!(state["bench"]["networks"].as_array().map(Vec::len), Some(2));
    assert_eq!(state["digits"].as_array().map(Vec::len), Some(36));
    assert_eq!(
        state["digits"][0]["pixels"].as_str().map(str::len),
        Some(784usize.div_ceil(3) * 4)
    );
    let start = events.find("frame", |_| true);
    assert_eq!(start["step"], 0);
    assert!(start["networks"][0]["theory"].is_array());
    let later = events.find("frame", |frame| frame["step"].as_u64() > Some(20));
    assert_eq!(later["networks"].as_array().map(Vec::len), Some(2));

    // Ten frames a second and more, while it plays.
    let begin = Instant::now();
    for _ in 0..20 {
        events.find("frame", |_| true);
    }
    println!("20 frames in {:?}", begin.elapsed());
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn every_action_has_its_effect_on_the_page() {
    let live = live();
    let mut events = Events::open(&live);
    assert_eq!(act(&live, json!({"do": "pause"})).0, 204);
    let state = events.find("state", |state| state["playing"] == false);
    let step = state["step"].as_u64().expect("a step");
    assert_eq!(act(&live, json!({"do": "step"})).0, 204);
    let frame = events.find("frame", |frame| frame["step"].as_u64() == Some(step + 1));
    assert!(frame["networks"][0]["layers"][0]["update"].is_number());
    assert!(frame["networks"][0]["accuracy"].is_number());

    let bench = json!({"networks": [{"init": "he", "norm": "batch", "depth": 2, "width": 16}], "batch": 32, "seed": 1, "play": true});
    assert_eq!(
        act(&live, json!({"do": "setup", "bench": bench, "until": 30})).0,
        204
    );
    let state = events.find("state", |state| {
        state["bench"]["batch"] == 32 && state["step"] == 30
    });
    assert_eq!(state["playing"], false);
    let id = state["ids"][0].clone();
    for what in [
        json!({"do": "fork", "network": id, "change": {"lr": 0.01}}),
        json!({"do": "set", "network": id, "change": {"activation": "tanh"}}),
        json!({"do": "multiply", "network": id, "layer": 0, "factor": 0.5}),
        json!({"do": "kill", "network": id, "layer": 1, "share": 0.25}),
        json!({"do": "affine", "network": id, "layer": 0, "gamma": 2.0, "beta": 0.1}),
        json!({"do": "recalibrate", "network": id}),
        json!({"do": "watch", "every": 3, "units": {"network": null, "layer": 1}}),
        json!({"do": "test", "batch": 50, "classes": [1, 2, 3], "own": true}),
        json!({"do": "rewind", "step": 12}),
        json!({"do": "add", "config": {"depth": 1}}),
        json!({"do": "remove", "network": id}),
        json!({"do": "restart"}),
        json!({"do": "play", "until": 5}),
    ] {
        let (status, answer) = act(&live, what.clone());
        assert_eq!(status, 204, "{what}: {answer}");
        events.find("frame", |_| true);
    }
    let end = events.find("state", |state| {
        state["playing"] == false && state["step"] == 5
    });
    assert_eq!(end["ids"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        end["test"],
        json!({"batch": 50, "classes": [1, 2, 3], "own": true})
    );

    let (status, answer) = act(&live, json!({"do": "set", "network": 77, "change": {}}));
    assert_eq!(status, 400);
    for language in ["en", "ko"] {
        assert!(
            answer["error"][language]
                .as_str()
                .is_some_and(|text| text.contains("77")),
            "{answer}"
        );
    }
}

#[test]
fn a_control_shows_its_effect_at_once() {
    let live = live();
    let mut events = Events::open(&live);
    events.find("frame", |frame| frame["step"].as_u64() > Some(10));
    let mut longest = Duration::ZERO;
    for lr in [1e-4, 1e-3, 1e-2] {
        let start = Instant::now();
        act(
            &live,
            json!({"do": "set", "network": 1, "change": {"lr": lr}}),
        );
        events.find("state", |state| state["bench"]["networks"][0]["lr"] == lr);
        longest = longest.max(start.elapsed());
    }
    println!("from a control to its effect: {longest:?} at most");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn a_digit_is_read_and_a_recording_is_one_file() {
    let live = live();
    let mut events = Events::open(&live);
    events.find("frame", |frame| frame["step"].as_u64() > Some(3));
    let (status, _, body) = ask(&live, "POST", "/read", &json!({"pixels": vec![0.0; 784]}));
    assert_eq!(status, 200, "{body}");
    let answers: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        answers["answers"][1]["probabilities"]
            .as_array()
            .map(Vec::len),
        Some(10)
    );
    let (status, _, _) = ask(&live, "POST", "/read", &json!({"pixels": vec![0.5; 783]}));
    assert_eq!(status, 400);

    let (status, head, body) = ask(
        &live,
        "GET",
        &format!("/file?token={}", live.token()),
        &Value::Null,
    );
    assert_eq!(status, 200);
    assert!(head.contains("attachment"));
    assert!(
        !body.contains(live.token()),
        "the token must not leave the machine in a file"
    );
    let json = body
        .split_once("<script id=\"recording\" type=\"application/json\">")
        .expect("a recording")
        .1;
    let json = json.split_once("</script>").expect("an end").0;
    let recording: Value = serde_json::from_str(json).expect("the recording is JSON");
    assert_eq!(recording["frames"][0]["step"], 0);
    assert_eq!(
        recording["state"]["digits"].as_array().map(Vec::len),
        Some(36)
    );
}

#[test]
fn the_page_is_guarded_by_its_headers() {
    let live = live();
    let (_, first, body) = ask(&live, "GET", "/", &Value::Null);
    let (_, second, _) = ask(&live, "GET", "/", &Value::Null);
    let nonce = |head: &str| {
        let policy = head
            .lines()
            .find(|line| line.starts_with("content-security-policy"))
            .expect("a policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        policy
            .split("'nonce-")
            .nth(1)
            .and_then(|it| it.split('\'').next())
            .expect("a nonce")
            .to_owned()
    };
    assert_ne!(nonce(&first), nonce(&second));
    assert!(body.contains(&nonce(&first)));
    for header in [
        "x-frame-options: DENY",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(first.contains(header), "{header} is not in {first}");
    }
}

#[test]
fn strangers_are_refused() {
    let live = live();
    let (address, token) = (live.address(), live.token());
    let own = format!("Host: {address}\r\nConnection: close\r\n");
    let key = format!("X-Token: {token}\r\n");
    let play = "{\"do\":\"play\"}";
    let length = format!("Content-Length: {}\r\n\r\n", play.len());
    for (what, request, expected) in [
        (
            "no token",
            format!("POST /act HTTP/1.1\r\n{own}{length}"),
            403,
        ),
        (
            "no token for events",
            format!("GET /events HTTP/1.1\r\n{own}\r\n"),
            403,
        ),
        (
            "no token for the file",
            format!("GET /file?token= HTTP/1.1\r\n{own}\r\n"),
            403,
        ),
        (
            "a wrong token",
            format!(
                "POST /act HTTP/1.1\r\n{own}X-Token: {}\r\n{length}",
                "0".repeat(32)
            ),
            403,
        ),
        (
            "a foreign origin",
            format!("POST /act HTTP/1.1\r\n{own}{key}Origin: http://evil.example\r\n{length}"),
            403,
        ),
        (
            "another port's origin",
            format!("POST /act HTTP/1.1\r\n{own}{key}Origin: http://127.0.0.1:1\r\n{length}"),
            403,
        ),
        (
            "a null origin",
            format!("POST /act HTTP/1.1\r\n{own}{key}Origin: null\r\n{length}"),
            403,
        ),
        (
            "a rebound host",
            format!(
                "GET / HTTP/1.1\r\nHost: evil.example:{}\r\nConnection: close\r\n\r\n",
                address.port()
            ),
            403,
        ),
        (
            "two hosts",
            format!("GET / HTTP/1.1\r\nHost: evil.example\r\n{own}\r\n"),
            403,
        ),
        (
            "no host",
            "GET / HTTP/1.1\r\nConnection: close\r\n\r\n".into(),
            403,
        ),
        (
            "another path",
            format!("GET /../etc/passwd HTTP/1.1\r\n{own}{key}\r\n"),
            404,
        ),
        (
            "another method",
            format!("GET /act HTTP/1.1\r\n{own}{key}\r\n"),
            405,
        ),
        ("no HTTP", "\u{0}\u{1}\u{2} hello\r\n\r\n".into(), 400),
        (
            "no action",
            format!("POST /act HTTP/1.1\r\n{own}{key}Content-Length: 3\r\n\r\nNaN"),
            400,
        ),
    ] {
        let (status, head, _) = send(address, &request, play.as_bytes())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(status, expected, "{what}: {head}");
        if status == 403 {
            assert!(
                !head.to_lowercase().contains("access-control"),
                "{what}: {head}"
            );
        }
    }
    assert_well(&live);
}

#[test]
fn huge_bodies_are_refused_before_they_are_read() {
    let live = live();
    let address = live.address();
    let head = |length: &str| {
        format!(
            "POST /act HTTP/1.1\r\nHost: {address}\r\nX-Token: {}\r\nConnection: close\r\n{length}\r\n\r\n",
            live.token()
        )
    };
    let (status, _, _) =
        send(address, &head("Content-Length: 99999999999"), b"").expect("an answer");
    assert_eq!(status, 413);
    // Chunks do not say how many there will be.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let (status, _, _) = send(
        address,
        &head("Transfer-Encoding: chunked"),
        chunk.repeat(3).as_bytes(),
    )
    .expect("an answer");
    assert_eq!(status, 413);
    let (status, _, _) = send(
        address,
        &format!("GET / HTTP/1.1\r\nX-Long: {}\r\n", "y".repeat(1 << 20)),
        b"",
    )
    .unwrap_or_default();
    assert!([0, 400, 431].contains(&status), "{status}");
    let many = "A: b\r\n".repeat(10_000);
    let (status, _, _) =
        send(address, &format!("GET / HTTP/1.1\r\n{many}\r\n"), b"").unwrap_or_default();
    assert!([0, 400, 431].contains(&status), "{status}");
    assert_well(&live);
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let live = live();
    let mut page = Events::open(&live);
    page.find("frame", |_| true);
    let mut open = Vec::new();
    for number in 0..1000 {
        // Some say nothing, some stop in the middle, some never read.
        let Ok(mut stream) = TcpStream::connect(live.address()) else {
            continue;
        };
        let said = match number % 4 {
            0 => "",
            1 => "GET / HT",
            2 => "POST /act HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{",
            _ => "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        let _ = stream.write_all(said.as_bytes());
        open.push(stream);
        // A thousand sockets at both ends are more than some systems allow a process.
        if open.len() > 300 {
            open.drain(..100);
        }
    }
    let start = Instant::now();
    assert_well(&live);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    act(&live, json!({"do": "play"}));
    let before = page.find("frame", |_| true)["step"].as_u64();
    page.find("frame", |frame| frame["step"].as_u64() > before);
}

#[test]
fn a_page_that_does_not_read_loses_frames_and_not_steps() {
    let live = live();
    let mut slow = Events::open(&live);
    slow.next();
    let mut quick = Events::open(&live);
    let step = |frame: &Value| frame["step"].as_u64().expect("a step");
    let start = step(&quick.find("frame", |_| true));
    let before = Instant::now();
    while before.elapsed() < Duration::from_secs(3) {
        quick.next();
    }
    let end = step(&quick.find("frame", |_| true));
    assert!(end > start + 20, "training went from {start} to {end} only");
    // What it missed is gone: it reads on close to where the others are.
    drop(quick);
    let caught_up = slow.find("frame", |frame| step(frame) >= end);
    assert!(step(&caught_up) >= end);
}

#[test]
fn the_lab_ends_when_it_is_dropped_and_says_when_its_port_is_taken() {
    let live = live();
    let address = live.address();
    let _page = Events::open(&live);
    let error = live_at(&address.to_string())
        .err()
        .expect("the port is taken");
    assert!(
        error.to_string().contains("cannot listen on 127.0.0.1:"),
        "{error}"
    );
    let start = Instant::now();
    drop(live);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(TcpStream::connect(address).is_err());
}
