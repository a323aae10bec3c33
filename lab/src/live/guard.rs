//! Who may ask.
//!
//! A page elsewhere must not steer the lab through the reader's browser. So a request must name `localhost` or an
//! address of the server as its host (against DNS rebinding). A request from a page must come from the lab's own page.
//! A request that reads or changes the lab needs the token, which only the lab's own page knows.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName, ORIGIN};

use super::text::Text;

/// What the server checks requests against.
pub(super) struct Guard {
    /// Where it listens.
    pub address: SocketAddr,
    pub token: String,
}

const TOKEN: HeaderName = HeaderName::from_static("x-token");

impl Guard {
    /// Checks the headers that every request has.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Text> {
        let host = headers
            .get(HOST)
            .and_then(|it| it.to_str().ok())
            .unwrap_or_default();
        if headers.get_all(HOST).iter().count() != 1 || !self.is_ours(host) {
            return Err(Text::new(
                format!(
                    "this server answers requests to {} only, not to `{}`",
                    self.address,
                    host.escape_debug()
                ),
                format!("이 서버는 {} 주소로 온 요청에만 답합니다", self.address),
            ));
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let own = format!("http://{host}");
        if !origins.all(|origin| {
            origin
                .to_str()
                .is_ok_and(|it| it.eq_ignore_ascii_case(&own))
        }) {
            return Err(Text::new(
                "this request comes from a page of another server",
                "다른 서버의 페이지에서 온 요청입니다",
            ));
        }
        Ok(())
    }

    /// Whether a `Host` header names this server: by `localhost`, or by an address of its own. The port may be another
    /// one, of a tunnel.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() && !name.ends_with(':') => name,
            _ => host,
        };
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let Ok(ip) = bare.unwrap_or(name).parse::<IpAddr>() else {
            return false;
        };
        // Nobody can make an address mean another machine, as they can a name.
        ip.is_loopback() || ip == self.address.ip() || self.address.ip().is_unspecified()
    }

    /// Checks the token, in its header or in the query.
    pub fn check_token(&self, headers: &HeaderMap, query: Option<&str>) -> Result<(), Text> {
        let header = headers.get(TOKEN).map(|it| it.as_bytes());
        let fields = query.into_iter().flat_map(|query| query.split('&'));
        let query = fields
            .filter_map(|field| field.strip_prefix("token="))
            .next();
        let found = header.or(query.map(str::as_bytes)).unwrap_or_default();
        match same(found, self.token.as_bytes()) {
            true => Ok(()),
            false => Err(Text::new(
                "this needs the token of this run: reload the page, or open the address that the program prints",
                "이번 실행의 토큰이 필요합니다. 페이지를 새로 고치거나 프로그램이 알려 준 주소를 여세요",
            )),
        }
    }
}

/// Compares in a time that does not tell where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |found, (a, b)| found | (a ^ b)) == 0
}

/// 128 random bits from the operating system, in hexadecimal.
pub(super) fn random_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_apart() {
        let guard = |address: &str| Guard {
            address: address.parse().expect("an address"),
            token: String::new(),
        };
        let loopback = guard("127.0.0.1:3001");
        for host in [
            "127.0.0.1:3001",
            "localhost:3001",
            "LOCALHOST",
            "[::1]:3001",
            "127.0.0.1",
        ] {
            assert!(loopback.is_ours(host), "{host}");
        }
        for host in [
            "evil.example:3001",
            "localhost.evil.example",
            "192.168.0.2:3001",
            "",
            "127.0.0.1.evil.example",
            "::",
        ] {
            assert!(!loopback.is_ours(host), "{host}");
        }
        assert!(guard("0.0.0.0:3001").is_ours("192.168.0.2:3001"));
        assert!(!guard("0.0.0.0:3001").is_ours("evil.example:3001"));
    }
}
