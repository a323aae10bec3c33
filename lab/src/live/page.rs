//! The page, in one file.

const HTML: &str = include_str!("page/index.html");
const CSS: &str = include_str!("page/live.css");
const LESSONS: &str = include_str!("page/lessons.json");
/// They share one scope, in this order.
const SCRIPTS: [&str; 12] = [
    include_str!("../page/language.js"),
    include_str!("page/words.js"),
    include_str!("page/config.js"),
    include_str!("page/lessons.js"),
    include_str!("page/history.js"),
    include_str!("page/link.js"),
    include_str!("page/canvas.js"),
    include_str!("page/pictures.js"),
    include_str!("page/bench.js"),
    include_str!("page/panels.js"),
    include_str!("page/tour.js"),
    include_str!("page/live.js"),
];

/// The page of a server: scripts and styles carry `nonce`, and the script gets the token.
pub(super) fn live(nonce: &str, token: &str) -> String {
    render(nonce, token, "")
}

/// A page that plays a recording, in JSON, without a server.
pub(super) fn playback(recording: &str) -> String {
    let recording = in_script(recording);
    let element =
        format!("<script id=\"recording\" type=\"application/json\">{recording}</script>");
    render("", "", &element)
}

/// JSON as the content of a script element. It has `<` in strings only, where the escape means the same.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// JSON without the white space that is for those who edit it.
fn compact(json: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(json);
    value.map_or_else(|_| json.to_owned(), |value| value.to_string())
}

fn render(nonce: &str, token: &str, recording: &str) -> String {
    let html = HTML.replace("{{nonce}}", nonce).replace("{{token}}", token);
    let parts = [
        ("/*css*/", CSS),
        ("/*lessons*/", &in_script(&compact(LESSONS))),
        ("<!--recording-->", recording),
        ("/*js*/", &SCRIPTS.join("\n")),
    ];
    // Each place comes after the one before, so nothing that was put in is taken for a place.
    parts
        .into_iter()
        .fold(html, |html, (place, part)| html.replacen(place, part, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::BenchConfig;

    #[test]
    fn the_page_has_all_its_parts_and_is_small() {
        let page = live("NONCE", "TOKEN");
        for left in ["/*css*/", "/*js*/", "{{nonce}}", "{{token}}"] {
            assert!(!page.contains(left), "{left} is left in the page");
        }
        assert!(page.contains("TOKEN"));
        assert!(
            page.len() <= 150 * 1024,
            "the page has {} bytes",
            page.len()
        );
    }

    #[test]
    fn the_page_opens_with_the_race_that_the_server_starts_with() {
        let lessons: serde_json::Value = serde_json::from_str(LESSONS).expect("lessons are JSON");
        let race = BenchConfig {
            play: false,
            ..serde_json::from_value(lessons["race"].clone()).expect("the race is a bench")
        };
        assert_eq!(race, BenchConfig::default());
    }

    #[test]
    fn a_recording_cannot_end_its_element() {
        let page = playback("{\"a\":\"</script><script>alert(1)</script>\"}");
        assert!(page.contains("\\u003c/script>\\u003cscript>alert(1)"));
    }
}
