//! The report: all findings in one self-contained HTML file.

use std::path::{Path, PathBuf};

use pulldown_cmark::{Options, Parser, html};

use crate::figure::{Color, Figure, Row, SCALE, Series, Shape, Stroke};
use crate::study::{Claim, Findings, Size};
use crate::train::{TrainError, write_atomically};

/// Replaces each `{{name}}` in an HTML file with a value.
macro_rules! fill {
    ($file:literal, $($name:ident: $value:expr),+ $(,)?) => {
        include_str!($file)$(.replace(concat!("{{", stringify!($name), "}}"), &$value.to_string()))+
    };
}

/// Makes the HTML file. Each of the findings gets a section with its story, its figures, its claims, and the command
/// that repeats the experiment. `date` is the day on which the page is made.
pub fn page(findings: &[Findings], date: &str) -> String {
    let claims = || findings.iter().flat_map(|it| &it.results.claims);
    let quick = findings.iter().any(|it| it.size == Size::Quick);
    let contents = findings.iter().map(|it| {
        let question = escape(it.experiment.question());
        format!("<li><a href=\"#{}\">{question}</a></li>\n", it.experiment)
    });
    let html = fill!("page.html",
        style: include_str!("page.css"),
        holding: claims().filter(|claim| claim.holds).count(),
        claims: claims().count(),
        quick: if quick { include_str!("quick.html") } else { "" },
        contents: contents.collect::<String>(),
        summary: markdown(include_str!("summary.md")),
        words: markdown(include_str!("words.md")),
        footer: findings.first().map_or_else(String::new, |it| footer(it, date)),
        script: include_str!("page.js"),
        sections: findings.iter().map(section).collect::<String>(),
    );
    // A non-breaking space keeps the name of a distribution on one line.
    html.replace("N(0, ", "N(0,\u{a0}")
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
        date: date,
        version: env!("CARGO_PKG_VERSION"),
        flags: flags,
        device: escape(&findings.device),
        size: size,
        seeds: seeds,
    )
}

fn section(findings: &Findings) -> String {
    let name = findings.experiment.to_string();
    let results = &findings.results;
    let figures = results.figures.iter().map(|it| figure(&name, it));
    fill!("section.html",
        name: name,
        question: escape(findings.experiment.question()),
        story: markdown(findings.experiment.story()),
        holding: results.claims.iter().filter(|claim| claim.holds).count(),
        claims: results.claims.len(),
        rows: results.claims.iter().map(claim).collect::<String>(),
        command: findings.command(),
        figures: figures.collect::<String>(),
    )
}

/// A row of the table of claims. The cells have explicit roles, because on a phone the style sheet turns them into
/// blocks.
fn claim(claim: &Claim) -> String {
    let (class, verdict) = match claim.holds {
        true => ("holds", "holds"),
        false => ("fails", "does not hold"),
    };
    let why = claim
        .why
        .map(|why| format!(" <small>{}</small>", escape(why)));
    fill!("claim.html",
        class: class,
        verdict: verdict,
        measured: claim.measured(),
        bound: claim.bound,
        statement: escape(&claim.statement),
        source: escape(claim.source),
        quantity: escape(&claim.quantity),
        why: why.unwrap_or_default(),
    )
}

fn figure(section: &str, figure: &Figure) -> String {
    let id = format!("{section}-{}", figure.name);
    let stepped = figure.steps.as_ref();
    let stepped = stepped.map(|what| format!(" data-steps=\"{}\"", escape(what)));
    let legend: String = figure.legend().into_iter().map(entry).collect();
    let legend = match legend.is_empty() {
        true => legend,
        false => format!("<ul class=\"legend\">{legend}</ul>\n"),
    };
    let numbers = figure.numbers().into_iter();
    let numbers: String = numbers
        .map(|it| format!("<li>{}</li>\n", escape(&it)))
        .collect();
    let (described, numbers) = match numbers.is_empty() {
        true => (format!("{id}-alt"), numbers),
        false => (
            format!("{id}-alt {id}-numbers"),
            format!(
                "<details><summary>In numbers</summary>\n<ul id=\"{id}-numbers\">\n{numbers}</ul></details>\n"
            ),
        ),
    };
    let rows = figure.rows.iter().map(|it| row(figure, it, &described));
    fill!("figure.html",
        id: id,
        stepped: stepped.unwrap_or_default(),
        title: escape(&figure.title),
        legend: legend,
        caption: escape(&figure.caption()),
        numbers: numbers,
        rows: rows.collect::<String>(),
    )
}

/// One entry of a legend.
fn entry(series: &Series) -> String {
    let color = match series.color {
        Color::INK => "currentColor".into(),
        color => String::from(color),
    };
    let path = |path: &str, width: u8, more: &str| {
        format!("<path d=\"{path}\" stroke=\"{color}\" stroke-width=\"{width}\"{more}/>")
    };
    let key = match (&series.shape, series.stroke) {
        (Shape::Cells(_), _) => {
            let part = |(i, share)| {
                let opacity = format!(" stroke-opacity=\"{share}\"");
                path(&format!("M{} 4h6", 6 * i), 8, &opacity)
            };
            (0..).zip(SCALE).map(part).collect()
        }
        (_, Stroke::Solid) => path("M0 4h24", 3, ""),
        (_, Stroke::Dashed) => path("M0 4h8M13 4h8", 3, ""),
        (_, Stroke::Dotted) => path("M6 4h0M18 4h0", 6, " stroke-linecap=\"round\""),
    };
    let label = escape(&series.label);
    format!(
        "<li><svg viewBox=\"0 0 24 8\" width=\"24\" height=\"8\" aria-hidden=\"true\">{key}</svg>{label}</li>"
    )
}

fn row(figure: &Figure, row: &Row, described: &str) -> String {
    let label = escape(&row.label);
    let heading = match label.is_empty() {
        true => String::new(),
        false => format!("<p class=\"label\">{label}</p>\n"),
    };
    // The titles of the panels are part of the accessible name.
    let titles = row.panels.iter().map(|panel| panel.title.as_str());
    let name = format!("{} {}", figure.title, row.label);
    let names = std::iter::once(name.trim()).chain(titles.filter(|title| !title.is_empty()));
    fill!("row.html",
        label: label,
        heading: heading,
        name: escape(&names.collect::<Vec<_>>().join(". ")),
        described: described,
        panels: row.panels.iter().map(|panel| panel.svg()).collect::<String>(),
    )
}

fn markdown(text: &str) -> String {
    let mut page = String::new();
    html::push_html(
        &mut page,
        Parser::new_ext(text, Options::ENABLE_DEFINITION_LIST),
    );
    page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The claims of all findings as Markdown tables.
pub fn claims_markdown(findings: &[Findings]) -> String {
    let sections = findings.iter().map(|it| {
        let claims = &it.results.claims;
        let rows = claims.iter().map(|claim| {
            format!(
                "| {} | {} | {} | {} | {} | {} |\n",
                claim.statement,
                claim.source,
                claim.quantity,
                claim.measured(),
                claim.bound,
                if claim.holds { "yes" } else { "**no**" },
            )
        });
        let reasons = claims.iter().filter_map(|claim| {
            let why = claim.why?;
            Some(format!("- **{}** does not hold. {why}\n", claim.statement))
        });
        format!(
            "## {}\n\n`{}`\n\n| claim | source | measured | number | required | holds |\n\
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
