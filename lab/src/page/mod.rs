//! The report: all findings in one self-contained HTML file, in English and Korean.

mod pictures;
mod words;

use std::path::{Path, PathBuf};

use pulldown_cmark::{Options, Parser, html};

use crate::figure::Figure;
use crate::number::Number;
use crate::study::{Bound, Claim, Experiment, Findings, Guess, Language, Size, Verdict};
use crate::train::{TrainError, write_atomically};
use words::{both, both_html, escape, fill, label};

/// The picture of the first screen: it contrasts the initialisations.
const CONTRAST: (Experiment, &str) = (Experiment::InitDistributions, "histograms-tanh");

/// Makes the HTML file. Each of the findings gets a section with its story, its figures, its claims, and the command
/// that repeats the experiment. `date` is the day on which the page is made.
pub fn page(findings: &[Findings], date: &str) -> String {
    let contents = findings.iter().map(|it| {
        let question = question(it.experiment);
        format!("<li><a href=\"#{}\">{question}</a></li>\n", it.experiment)
    });
    let contrast = findings.iter().find(|it| it.experiment == CONTRAST.0);
    let contrast =
        contrast.and_then(|it| it.results.figures.iter().find(|it| it.name == CONTRAST.1));
    let contrast = contrast.map(|figure| pictures::figure(&CONTRAST.0.to_string(), figure, 1));
    let html = fill!("page.html",
        verdicts: verdicts(findings),
        quick: quick(findings),
        start: markdown_in_both(include_str!("start.md"), include_str!("start.ko.md")),
        contrast: contrast.unwrap_or_default(),
        contents: contents.collect::<String>(),
        words: markdown_in_both(include_str!("words.md"), include_str!("words.ko.md")),
        footer: findings.first().map_or_else(String::new, |it| footer(it, date)),
        sections: findings.iter().map(section).collect::<String>(),
        language: label(["Language"]),
        sections_label: label(["Sections"]),
        korean_title: escape(&words::korean(TITLE).unwrap_or_default()),
        title: TITLE,
        style: include_str!("page.css"),
        script: concat!(include_str!("language.js"), "\n", include_str!("page.js")),
    );
    // A non-breaking space keeps the name of a distribution on one line.
    html.replace("N(0, ", "N(0,\u{a0}")
}

const TITLE: &str = "How a network starts, and what batch norm does";

/// How many claims hold, and what the others do.
fn verdicts(findings: &[Findings]) -> String {
    let count = |verdict| findings.iter().map(|it| it.count(verdict)).sum::<usize>();
    let [holds, fails, unknown] =
        [Verdict::Holds, Verdict::Fails, Verdict::NeedsFullRun].map(count);
    let claims = holds + fails + unknown;
    let others = [
        (fails, format!("{fails} do not, and are shown too.")),
        (unknown, format!("{unknown} need the full run.")),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    let texts = [format!("{holds} of {claims} hold.")].into_iter();
    let texts: Vec<_> = texts
        .chain(others.map(|(_, text)| text))
        .map(|it| both(&it))
        .collect();
    texts.join(" ")
}

/// The warning on a page of quick findings.
fn quick(findings: &[Findings]) -> String {
    match findings.iter().any(|it| it.size == Size::Quick) {
        true => fill!("quick.html"),
        false => String::new(),
    }
}

fn question(experiment: Experiment) -> String {
    let [english, korean] = Language::ALL.map(|it| escape(experiment.question_in(it)));
    both_html("span", &english, &korean)
}

fn footer(findings: &Findings, date: &str) -> String {
    let size = match findings.size {
        Size::Full => "full size",
        Size::Quick => "quick size",
    };
    let seeds = match findings.seeds {
        None => "the default number of seeds for each experiment".into(),
        Some(1) => "1 seed".into(),
        Some(seeds) => format!("{seeds} seeds"),
    };
    let flags = match findings.flags() {
        flags if flags.is_empty() => flags,
        flags => format!(" --{flags}"),
    };
    fill!("footer.html",
        size: both(size),
        seeds: both(&seeds),
        date: date,
        version: env!("CARGO_PKG_VERSION"),
        flags: flags,
        device: escape(&findings.device),
    )
}

fn section(findings: &Findings) -> String {
    let name = findings.experiment.to_string();
    let results = &findings.results;
    let (detail, shown): (Vec<_>, Vec<_>) = results.figures.iter().partition(|it| it.folded);
    let shown = shown
        .into_iter()
        .filter(|it| (findings.experiment, it.name.as_str()) != CONTRAST);
    // Small multiples, and four or more panels side by side, need the whole width.
    let (wide, beside): (Vec<_>, Vec<_>) =
        shown.partition(|it| it.grid || it.rows.iter().any(|row| row.panels.len() > 3));
    let detail = match detail.is_empty() {
        true => String::new(),
        false => fill!("detail.html", figures: figures(&name, &detail)),
    };
    let guess = results.guess.as_ref().and_then(guess);
    let failed = results
        .claims
        .iter()
        .filter(|it| findings.verdict(it) == Verdict::Fails);
    let failed: String = failed.map(failed_claim).collect();
    let failed = match failed.is_empty() {
        true => failed,
        false => fill!("failed.html", claims: failed),
    };
    let others = results
        .claims
        .iter()
        .filter(|it| findings.verdict(it) != Verdict::Fails);
    let verdict = format!(
        "{} of {} hold",
        findings.count(Verdict::Holds),
        results.claims.len()
    );
    // A number stays with its percent sign.
    let story = |language| findings.story(language).replace(" %", "\u{a0}%");
    let stories = Language::ALL.map(|it| markdown(&story(it)));
    let wide = match wide.is_empty() {
        true => String::new(),
        false => format!("<div class=\"whole\">{}</div>\n", figures(&name, &wide)),
    };
    fill!("section.html",
        question: question(findings.experiment),
        story: both_html("div", &stories[0], &stories[1]),
        guess: guess.unwrap_or_default(),
        beside: figures(&name, &beside),
        wide: wide,
        detail: detail,
        failed: failed,
        verdict: both(&verdict),
        rows: others.map(|it| claim(findings, it)).collect::<String>(),
        command: findings.command(),
        name: name,
    )
}

/// Figures one below the other; two of a kind that needs half the width stand side by side.
fn figures(section: &str, mut figures: &[&Figure]) -> String {
    let mut html = String::new();
    while let Some((first, rest)) = figures.split_first() {
        let pairs =
            |it: &&&Figure| (it.grid && first.grid) || (it.is_single() && first.is_single());
        let second = rest.first().filter(pairs);
        let columns = 1 + usize::from(second.is_some());
        for figure in [first].into_iter().chain(second) {
            html += &pictures::figure(section, figure, columns);
        }
        figures = &figures[columns..];
    }
    html
}

/// A question to answer before the figures do; `None` if nothing was measured that answers it.
fn guess(guess: &Guess) -> Option<String> {
    let answer = guess.answer()?;
    let choices = guess
        .choices
        .iter()
        .enumerate()
        .map(|(place, (choice, number))| {
            let number = match number.is_finite() {
                true => Number(*number).to_string(),
                false => both("never"),
            };
            fill!("choice.html",
                choice: both(choice),
                number: number,
                right: if place == answer { " data-right" } else { "" },
            )
        });
    Some(fill!("guess.html",
        question: both(&guess.question),
        quantity: both(&guess.quantity),
        answer: both(&guess.choices[answer].0),
        choices: choices.collect::<String>(),
    ))
}

/// A claim that does not hold.
fn failed_claim(claim: &Claim) -> String {
    let why = claim.why.map(|why| format!("<p>{}</p>", both(why)));
    fill!("failed_claim.html",
        statement: both(&claim.statement),
        source: escape(claim.source),
        quantity: both(&claim.quantity),
        measured: claim.measured(),
        bound: bound(claim.bound),
        why: why.unwrap_or_default(),
    )
}

/// A row of the table of claims. The cells have explicit roles, because on a phone the style sheet turns them into
/// blocks.
fn claim(findings: &Findings, claim: &Claim) -> String {
    let verdict = findings.verdict(claim);
    let class = match verdict {
        Verdict::Holds => "holds",
        Verdict::Fails => "fails",
        Verdict::NeedsFullRun => "unknown",
    };
    fill!("claim.html",
        verdict: both(&verdict.to_string()),
        class: class,
        measured: claim.measured(),
        bound: bound(claim.bound),
        statement: both(&claim.statement),
        source: escape(claim.source),
        quantity: both(&claim.quantity),
    )
}

fn bound(bound: Bound) -> String {
    both(&bound.to_string())
}

fn markdown(text: &str) -> String {
    let mut page = String::new();
    let options = Options::ENABLE_DEFINITION_LIST | Options::ENABLE_TABLES;
    html::push_html(&mut page, Parser::new_ext(text, options));
    page
}

fn markdown_in_both(english: &str, korean: &str) -> String {
    both_html("div", &markdown(english), &markdown(korean))
}

/// The claims of all findings as Markdown tables.
pub fn claims_markdown(findings: &[Findings]) -> String {
    let sections = findings.iter().map(|it| {
        let claims = &it.results.claims;
        let rows = claims.iter().map(|claim| {
            let verdict = it.verdict(claim);
            format!(
                "| {} | {} | {} | {} | {} | {} |\n",
                claim.statement,
                claim.source,
                claim.quantity,
                claim.measured(),
                claim.bound,
                match verdict {
                    Verdict::Holds => verdict.to_string(),
                    Verdict::Fails | Verdict::NeedsFullRun => format!("**{verdict}**"),
                },
            )
        });
        let failed = claims
            .iter()
            .filter(|claim| it.verdict(claim) == Verdict::Fails);
        let reasons = failed.filter_map(|claim| {
            let why = claim.why?;
            Some(format!("- **{}** does not hold. {why}\n", claim.statement))
        });
        format!(
            "## {}\n\n`{}`\n\n| claim | source | measured | number | required | verdict |\n\
             | --- | --- | --- | --- | --- | --- |\n{}\n{}",
            it.experiment.question(),
            it.command(),
            rows.collect::<String>(),
            reasons.collect::<String>(),
        )
    });
    sections
        .map(|it| it.trim_end().to_string() + "\n")
        .collect::<Vec<_>>()
        .join("\n")
}

/// Writes the [`page`] as `report.html` and the claims as `claims.md` into a folder. Returns the path of the page.
///
/// # Errors
///
/// A file cannot be written.
pub fn write(folder: &Path, findings: &[Findings]) -> Result<PathBuf, TrainError> {
    let path = folder.join("report.html");
    let claims = claims_markdown(findings);
    write_atomically(&folder.join("claims.md"), claims.as_bytes())?;
    write_atomically(&path, page(findings, &today()).as_bytes())?;
    Ok(path)
}

/// Today's date in UTC, as 2026-11-24.
fn today() -> String {
    jiff::Timestamp::now().strftime("%F").to_string()
}
