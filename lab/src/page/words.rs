//! The texts of the page in English and Korean.
//!
//! The page is written in English. Its Korean is looked up here: in the table beside this file, and in those of the
//! experiments. A table has pairs of lines, English and Korean, between empty lines. `{name}` in a pair stands for a
//! number or for another text that has its Korean, so one pair covers all texts that differ in such parts.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::study::Experiment;

/// Replaces each `[[text]]` in an HTML file with the text in both languages, and each `{{name}}` with a value.
macro_rules! fill {
    ($file:literal $(, $name:ident: $value:expr)* $(,)?) => {
        $crate::page::words::translate(include_str!($file))
            $(.replace(concat!("{{", stringify!($name), "}}"), &$value.to_string()))*
    };
}
pub(super) use fill;

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let experiments = Experiment::ALL.into_iter().map(Experiment::words);
    let tables = [include_str!("korean.txt")].into_iter().chain(experiments);
    Words::of(tables.flat_map(pairs))
});

/// The pairs of a table.
fn pairs(table: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = table
        .split("\n\n")
        .map(str::trim)
        .filter(|it| !it.is_empty());
    pairs.map(|pair| {
        pair.split_once('\n')
            .unwrap_or_else(|| panic!("\"{pair}\" has no Korean"))
    })
}

struct Words {
    texts: HashMap<&'static str, &'static str>,
    patterns: Vec<Pattern>,
}

/// A pair with names in braces.
struct Pattern {
    /// The English before, between and after the names.
    fixed: Vec<&'static str>,
    names: Vec<&'static str>,
    korean: &'static str,
}

impl Words {
    fn of(pairs: impl Iterator<Item = (&'static str, &'static str)>) -> Self {
        let (mut texts, mut patterns) = (HashMap::new(), Vec::new());
        for (english, korean) in pairs {
            match english.contains('{') {
                true => patterns.push(Pattern::new(english, korean)),
                false => {
                    let before = texts.insert(english, korean);
                    assert!(before.is_none(), "\"{english}\" has two translations");
                }
            }
        }
        Self { texts, patterns }
    }

    fn korean(&self, text: &str) -> Option<String> {
        if is_number(text) {
            return Some(text.into());
        }
        let whole = self.texts.get(text).map(|korean| korean.to_string());
        whole.or_else(|| self.patterns.iter().find_map(|it| it.fill(text, self)))
    }
}

impl Pattern {
    fn new(english: &'static str, korean: &'static str) -> Self {
        let mut parts = english.split('{');
        let mut fixed = vec![parts.next().unwrap_or_default()];
        let mut names = Vec::new();
        for part in parts {
            let (name, after) = part.split_once('}').expect("a name ends with a brace");
            names.push(name);
            fixed.push(after);
        }
        Self {
            fixed,
            names,
            korean,
        }
    }

    /// The Korean for a text that has the form of the pattern.
    fn fill(&self, text: &str, words: &Words) -> Option<String> {
        let rest = text.strip_prefix(self.fixed[0])?;
        let parts = fit(rest, &self.fixed[1..], words)?;
        let parts = self.names.iter().zip(parts);
        Some(
            parts.fold(self.korean.into(), |korean: String, (name, part)| {
                korean.replace(&format!("{{{name}}}"), &part)
            }),
        )
    }
}

/// Splits a text at the given texts, so that every part before one of them has its Korean. Returns the Korean parts.
fn fit(text: &str, fixed: &[&str], words: &Words) -> Option<Vec<String>> {
    let Some((next, later)) = fixed.split_first() else {
        return text.is_empty().then(Vec::new);
    };
    let ends: Vec<usize> = match later.is_empty() {
        true => vec![text.len().checked_sub(next.len())?],
        false => text.match_indices(next).map(|(at, _)| at).collect(),
    };
    ends.into_iter().filter(|&at| at > 0).find_map(|at| {
        let (part, rest) = text.split_at_checked(at)?;
        let mut parts = fit(rest.strip_prefix(next)?, later, words)?;
        parts.insert(0, words.korean(part)?);
        Some(parts)
    })
}

/// Whether a text has numbers and signs alone.
fn is_number(text: &str) -> bool {
    let mut words = text.split(|char: char| !char.is_alphabetic());
    words.all(|word| ["", "e", "NaN", "inf"].contains(&word))
}

/// The Korean of an English text; `None` if it has none.
pub(super) fn korean(english: &str) -> Option<String> {
    WORDS.korean(english)
}

/// A text in both languages, as HTML. The style sheet shows one of them. Without Korean, the page says so in its
/// source, where a test finds it.
pub(super) fn both(english: &str) -> String {
    match korean(english) {
        Some(korean) if korean == english => escape(english),
        Some(korean) => both_html("span", &escape(english), &escape(&korean)),
        None => format!("<span data-untranslated>{}</span>", escape(english)),
    }
}

/// The same content in both languages, each in an element of this name.
pub(super) fn both_html(element: &str, english: &str, korean: &str) -> String {
    format!(
        "<{element} lang=\"en\">{english}</{element}><{element} lang=\"ko\">{korean}</{element}>"
    )
}

/// The accessible name of an element in both languages, as attributes. The page's script switches between them.
pub(super) fn label<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let english: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let korean: Vec<_> = english.iter().map(|part| korean(part)).collect();
    let attributes = match korean.into_iter().collect::<Option<Vec<_>>>() {
        Some(korean) => format!("data-ko=\"{}\"", escape(&korean.join(". "))),
        None => "data-untranslated".into(),
    };
    format!(
        "aria-label=\"{}\" {attributes}",
        escape(&english.join(". "))
    )
}

/// Replaces every `[[text]]` of a template by the text in both languages.
pub(super) fn translate(template: &str) -> String {
    let mut parts = template.split("[[");
    let mut html = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (text, after) = part.split_once("]]").expect("a text ends with brackets");
        html += &both(&text.replace('\n', " "));
        html += after;
    }
    html
}

/// Puts the texts of an SVG picture into both languages.
pub(super) fn translate_svg(svg: &str) -> String {
    let mut lines = svg.lines();
    let mut html = String::new();
    while let Some(line) = lines.next() {
        let Some(attributes) = line.strip_prefix("<text ") else {
            html += line;
            html.push('\n');
            continue;
        };
        // The text and the closing tag are lines of their own.
        let text = lines.next().unwrap_or_default();
        let end = lines.next().unwrap_or_default();
        let mut element = |more: &str, text: &str| {
            html += &format!("<text {more}{attributes}\n{text}\n{end}\n");
        };
        match korean(&unescape(text)) {
            Some(korean) if escape(&korean) == text => element("", text),
            Some(korean) => {
                element("lang=\"en\" ", text);
                element("lang=\"ko\" ", &escape(&korean));
            }
            None => element("data-untranslated=\"\" ", text),
        }
    }
    html
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let table = "layer {n}\n{n}층\n\nstd {n}\n표준편차 {n}\n\n{a}, without {b}\n{b} 없음: {a}\n\nHe\nHe\n";
        Words::of(pairs(table))
    }

    #[test]
    fn a_pattern_fits_if_all_its_parts_have_their_korean() {
        let words = words();
        assert_eq!(words.korean("layer 3").as_deref(), Some("3층"));
        assert_eq!(
            words.korean("std 1.5e-7").as_deref(),
            Some("표준편차 1.5e-7")
        );
        assert_eq!(
            words.korean("layer 3, without He").as_deref(),
            Some("He 없음: 3층")
        );
        assert_eq!(words.korean("layer of snow"), None);
        assert_eq!(words.korean("layer "), None);
        assert_eq!(words.korean("2.5, 3 %").as_deref(), Some("2.5, 3 %"));
    }

    #[test]
    fn a_picture_has_each_text_once_for_each_language_that_differs() {
        let svg = "<svg>\n<text x=\"1\">\n0.5\n</text>\n<text x=\"2\">\nlayer\n</text>\n</svg>";
        let html = translate_svg(svg);
        assert_eq!(html.matches("<text").count(), 3);
        assert!(html.contains("<text lang=\"ko\" x=\"2\">\n층\n</text>"));
    }

    #[test]
    fn both_languages_of_a_pair_name_the_same_parts() {
        let experiments = Experiment::ALL.into_iter().map(Experiment::words);
        let tables = [include_str!("korean.txt")].into_iter().chain(experiments);
        for (english, korean) in tables.flat_map(pairs) {
            let names = |text: &'static str| {
                let mut names = Pattern::new(text, text).names;
                names.sort();
                names
            };
            assert_eq!(names(english), names(korean), "{english}");
            assert!(!korean.contains('\n'), "\"{english}\" has three lines");
            // Only names and formulas are the same in both.
            let hangul = |text: &str| text.chars().any(|char| ('가'..='힣').contains(&char));
            let is_name = english == korean || !form(korean).contains(char::is_alphabetic);
            assert!(hangul(korean) || is_name, "\"{korean}\" is not Korean");
            assert!(!hangul(english), "\"{english}\" is not English");
        }
    }

    /// The string literals of Rust source, except for messages of panics.
    fn literals(source: &str) -> Vec<String> {
        let code = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n").replace("'\"'", "");
        let mut found = Vec::new();
        let mut rest = code.as_str();
        while let Some((before, after)) = rest.split_once('"') {
            let mut end = 0;
            while !after[end..].starts_with('"') {
                end += if after[end..].starts_with('\\') { 2 } else { 1 };
                while !after.is_char_boundary(end) {
                    end += 1;
                }
            }
            let panics = ["expect(", "unreachable!(", "assert!("];
            if !panics.iter().any(|it| before.trim_end().ends_with(it)) {
                let lines = after[..end].split("\\\n").map(str::trim_start);
                found.push(lines.collect());
            }
            rest = &after[end + 1..];
        }
        found
    }

    /// A text without what its braces name.
    fn form(text: &str) -> String {
        let mut parts = text.split('{');
        let first = parts.next().unwrap_or_default().to_string();
        parts.fold(first, |form, part| {
            form + "{" + part.split_once('}').map_or("", |(_, after)| after)
        })
    }

    /// A quick run does not show all of them: neither the reasons of claims, nor what takes longer.
    #[test]
    fn every_sentence_in_the_source_of_the_experiments_has_its_korean() {
        let experiments = Experiment::ALL.into_iter().map(Experiment::words);
        let tables = [include_str!("korean.txt")].into_iter().chain(experiments);
        let known: std::collections::HashSet<String> = tables
            .flat_map(pairs)
            .map(|(english, _)| form(english))
            .collect();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/study");
        let mut sentences = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            let is_experiment = name.starts_with("init_") || name.starts_with("batch_norm_");
            if !is_experiment || !name.ends_with(".rs") {
                continue;
            }
            for text in literals(&std::fs::read_to_string(&path).unwrap()) {
                // Names within the data are single words, or are kept as they were.
                let is_data = !text.contains(' ') || text.starts_with("own, ");
                if is_data
                    || form(&text)
                        .replace('{', "")
                        .chars()
                        .all(|it| !it.is_alphabetic())
                {
                    continue;
                }
                let pattern = known.contains(&form(&text)) || korean(&text).is_some();
                assert!(pattern, "{name}: \"{text}\" has no Korean");
                sentences += 1;
            }
        }
        assert!(sentences > 150, "only {sentences} sentences were found");
    }
}
