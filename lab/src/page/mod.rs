//! The report: all findings in one self-contained HTML file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::figure::{Figure, Stroke};
use crate::study::{Claim, Findings, Size};
use crate::train::{TrainError, write_atomically};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page comes to, said first.
const SUMMARY: &str = "\
<ul>
<li><strong>How large the first weights are decides whether a deep network learns at all.</strong> Too large,
and the signal explodes or sits at the ends of the activation; too small, and it fades to nothing. Weights
that are all zero never learn: all units do the same.</li>
<li><strong>Tanh goes with Xavier</strong> (variance 1/n for n inputs): a sum of n independent terms has n times
the variance of one, so dividing by n keeps it. So, by custom, does sigmoid, though a deep sigmoid network is
hard to start with any weights. <strong>ReLU goes with He</strong> (variance 2/n): it throws away the negative
half of every signal, and the 2 makes up for it.</li>
<li><strong>In training, batch norm brings every unit of every layer to mean 0 and std 1</strong>, over the
images of the batch at hand, then to a mean and a std that are learned. So the scale of the weights matters
far less, and larger learning rates work.</li>
<li><strong>In use, it goes by averages remembered from training</strong>, so that the answer to an image does
not depend on which others came along. In Burn, call <code>.valid()</code> on the trained model first, and use
the model that it returns.</li>
<li><strong>So never let a test batch be normalised by its own statistics</strong>: one image alone, a small
batch, or a batch of one class gets wrong answers. And the remembered averages must be fresh: recompute them
after training if in doubt.</li>
</ul>";

/// The words that the page uses, for those who are new to them.
const WORDS: &str = "\
<dl>
<dt>Layer, unit, weight</dt>
<dd>A network is a row of layers, a layer a set of units. A unit adds up all numbers that the layer before puts
out, each times a weight. Learning means changing the weights.</dd>
<dt>Activation</dt>
<dd>What a unit does to its sum before it puts it out. <em>Sigmoid</em> squeezes it to 0 to 1, <em>tanh</em> to -1
to 1, <em>ReLU</em> makes it 0 where it is negative and leaves it alone elsewhere.</dd>
<dt>Std, variance, N(0, 1)</dt>
<dd>The standard deviation says how far numbers are spread around their mean; the variance is its square. N(0, 1)
are random numbers around 0 with std 1 in the shape of a bell, N(0, 0.01²) the same with std 0.01.</dd>
<dt>Gradient, learning rate, step</dt>
<dd>The gradient says for each weight which way, and how strongly, the error changes with it. A step moves all
weights against it, by the gradient times the learning rate.</dd>
<dt>Loss, accuracy</dt>
<dd>The loss says how wrong the network is, as a number to be made small: 0 is sure and right. The accuracy is
the share of images whose first choice is right.</dd>
<dt>Batch, epoch, seed</dt>
<dd>A step looks at some images at once, a batch. An epoch is once through all images. A seed fixes what is drawn
at random; repeating over seeds shows what is chance.</dd>
<dt>Training, validation, test</dt>
<dd>A network learns from the training images and is judged by images that it has not learned from.</dd>
<dt>Saturated, dead</dt>
<dd>A saturated unit sits at an end of its activation, where its output hardly changes with its sum, so that
hardly any gradient comes through. A dead unit does so for every image.</dd>
<dt>Batch norm</dt>
<dd>Between a layer's sums and its activation, it takes from each unit's sums their mean over the batch and divides
by their std, then multiplies by a number (gamma) and adds another (beta), which are learned.</dd>
<dt>Running statistics</dt>
<dd>The means and variances that batch norm remembers from training. Exponential: each batch moves them a tenth of
the way, from 0 and 1. Debiased: the same without that start. Cumulative: the plain mean over all batches.
Recalibrated: computed anew once the weights hold still.</dd>
<dt>Biased, unbiased</dt>
<dd>The variance within a batch of m values is on average too small, by the factor (m - 1) / m: it is biased. The
unbiased one is divided by that factor.</dd>
<dt>Median, percentile, band</dt>
<dd>The median is the value in the middle, with as many below it as above; 15 in 100 values lie below the 15th
percentile. In the figures a line is the median over seeds, and the band around it goes from the least to the
largest.</dd>
</dl>";

/// One self-contained HTML file: a section for each of the findings, with figures to step through,
/// claims, and the command that makes them again. `date` is the day of making it.
pub fn page(findings: &[Findings], date: &str) -> String {
    let claims = || findings.iter().flat_map(|it| &it.claims);
    let holding = claims().filter(|claim| claim.holds).count();
    let mut html = String::new();
    let mut add = |text: &str| html.push_str(text);
    add("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    add("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    add("<title>How a network starts, and what batch norm does</title>\n");
    // An icon of its own, so that no browser asks a server for one.
    add("<link rel=\"icon\" href=\"data:,\">\n");
    add(&format!(
        "<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n"
    ));
    add("<h1>How a network starts, and what batch norm does</h1>\n");
    add(&format!(
        "<p>Five ways to draw the first weights of a network, with and without batch normalisation, \
         measured layer by layer on MNIST's handwritten digits. Each section asks a question, shows what \
         was measured, and holds sentences from the literature against it: {holding} of {} hold. Those \
         that do not are shown too.</p>\n",
        claims().count(),
    ));
    if findings.iter().any(|it| it.size == Size::Quick) {
        add(
            "<p><strong>This is a quick look:</strong> less data, fewer epochs and fewer repetitions than \
             the texts and the claims are about. <code>cargo run --release --example report</code> does all \
             of it.</p>\n",
        );
    }
    add("<nav aria-label=\"Sections\"><ol>\n");
    for it in findings {
        let question = escape(&it.question);
        add(&format!(
            "<li><a href=\"#{}\">{question}</a></li>\n",
            it.experiment
        ));
    }
    add("</ol></nav>\n</header>\n<main>\n");
    add(&format!(
        "<section id=\"summary\">\n<h2>In short</h2>\n{SUMMARY}\n</section>\n\
         <section id=\"words\">\n<h2>Words used here</h2>\n{WORDS}\n</section>\n"
    ));
    for it in findings {
        add(&section(it));
    }
    add("</main>\n");
    if let Some(it) = findings.first() {
        add(&format!(
            "<footer>\n<p>Made on {date} by burn-kindling {}, with <code>cargo run --release --example \
             report{}</code>, on {}: {}, {}.</p>\n</footer>\n",
            env!("CARGO_PKG_VERSION"),
            it.flags(),
            escape(&it.device),
            match it.size {
                Size::Full => "full size",
                Size::Quick => "quick size",
            },
            match it.seeds {
                None => "as many seeds as each experiment takes by itself".into(),
                Some(1) => "1 seed".into(),
                Some(seeds) => format!("{seeds} seeds"),
            },
        ));
    }
    add(&format!("<script>\n{SCRIPT}</script>\n</body>\n</html>\n"));
    // The name of a distribution stays on one line.
    html.replace("N(0, ", "N(0,\u{a0}")
}

fn section(findings: &Findings) -> String {
    let name = findings.experiment.to_string();
    let mut html = format!(
        "<section id=\"{name}\">\n<h2>{}</h2>\n",
        escape(&findings.question)
    );
    for paragraph in &findings.story {
        write_to(&mut html, format_args!("<p>{}</p>\n", escape(paragraph)));
    }
    for drawn in &findings.figures {
        html += &figure(&name, drawn);
    }
    let holding = findings.claims.iter().filter(|claim| claim.holds).count();
    write_to(
        &mut html,
        format_args!(
            "<h3>What the literature says: {holding} of {} hold</h3>\n<table role=\"table\">\n\
             <thead role=\"rowgroup\"><tr role=\"row\">",
            findings.claims.len(),
        ),
    );
    for name in COLUMNS {
        html += &format!("<th scope=\"col\" role=\"columnheader\">{name}</th>");
    }
    html += "</tr></thead>\n<tbody role=\"rowgroup\">\n";
    for claim in &findings.claims {
        html += &claim_row(claim);
    }
    write_to(
        &mut html,
        format_args!(
            "</tbody>\n</table>\n<p class=\"command\">To see it yourself: <code>{}</code></p>\n</section>\n",
            findings.command(),
        ),
    );
    html
}

const COLUMNS: [&str; 4] = ["Claim", "Measured", "To hold", "Holds"];

fn claim_row(claim: &Claim) -> String {
    let (class, verdict) = match claim.holds {
        true => ("holds", "holds"),
        false => ("fails", "does not hold"),
    };
    let why = claim
        .why
        .map(|why| format!(" <small>{}</small>", escape(why)));
    let cells = [
        format!(
            "{} <cite>{}</cite>",
            escape(&claim.statement),
            escape(&claim.source)
        ),
        format!(
            "<b>{}</b> <small>{}</small>",
            claim.measured(),
            escape(&claim.quantity)
        ),
        claim.bound.to_string(),
        format!(
            "<b class=\"verdict\">{verdict}</b>{}",
            why.unwrap_or_default()
        ),
    ];
    // The roles stay when the style sheet makes blocks of the cells, on a phone.
    let cells = COLUMNS.iter().zip(cells);
    let cells =
        cells.map(|(name, cell)| format!("<td role=\"cell\" data-name=\"{name}\">{cell}</td>"));
    format!(
        "<tr role=\"row\" class=\"{class}\">{}</tr>\n",
        cells.collect::<String>()
    )
}

fn figure(section: &str, figure: &Figure) -> String {
    let id = format!("{section}-{}", figure.name);
    let stepped = match &figure.steps {
        Some(what) => format!(" data-steps=\"{}\"", escape(what)),
        None => String::new(),
    };
    let mut html = format!(
        "<figure id=\"{id}\"{stepped} aria-labelledby=\"{id}-title\">\n\
         <p class=\"title\" id=\"{id}-title\">{}</p>\n",
        escape(&figure.title)
    );
    let legend = figure.legend();
    if !legend.is_empty() {
        html += "<ul class=\"legend\">";
        for (label, key) in legend {
            let color = String::from(key.color);
            let color = match key.color {
                crate::figure::Color::INK => "currentColor",
                _ => &color,
            };
            let mark = match key.stroke {
                Stroke::Dotted => {
                    format!(
                        "<path d=\"M6 4h0M18 4h0\" stroke=\"{color}\" stroke-width=\"6\" stroke-linecap=\"round\"/>"
                    )
                }
                Stroke::Dashed => {
                    format!("<path d=\"M0 4h8M13 4h8\" stroke=\"{color}\" stroke-width=\"3\"/>")
                }
                Stroke::Solid => {
                    format!("<path d=\"M0 4h24\" stroke=\"{color}\" stroke-width=\"3\"/>")
                }
            };
            html += &format!(
                "<li><svg viewBox=\"0 0 24 8\" width=\"24\" height=\"8\" aria-hidden=\"true\">{mark}</svg>{}</li>",
                escape(label)
            );
        }
        html += "</ul>\n";
    }
    let numbers = figure.numbers();
    let described = match numbers.is_empty() {
        true => format!("{id}-alt"),
        false => format!("{id}-alt {id}-numbers"),
    };
    for row in &figure.rows {
        let label = escape(&row.label);
        write_to(
            &mut html,
            format_args!("<div class=\"row\" data-label=\"{label}\">\n"),
        );
        if !row.label.is_empty() {
            write_to(&mut html, format_args!("<p class=\"label\">{label}</p>\n"));
        }
        let name = [figure.title.as_str(), row.label.as_str()].join(" ");
        // What a histogram shows is in the titles of its panels.
        let titles = row.panels.iter().map(|panel| panel.title.as_str());
        let titles: Vec<&str> = titles.filter(|title| !title.is_empty()).collect();
        write_to(
            &mut html,
            format_args!(
                "<div class=\"panels\" role=\"img\" aria-label=\"{}\" aria-describedby=\"{described}\">\n",
                escape(&[&[name.trim()][..], &titles].concat().join(". "))
            ),
        );
        for panel in &row.panels {
            html += &panel.svg();
        }
        html += "</div>\n</div>\n";
    }
    write_to(
        &mut html,
        format_args!(
            "<figcaption><p id=\"{id}-alt\">{}</p>\n",
            escape(&figure.caption())
        ),
    );
    if !numbers.is_empty() {
        html += &format!("<details><summary>In numbers</summary>\n<ul id=\"{id}-numbers\">\n");
        for sentence in numbers {
            html += &format!("<li>{}</li>\n", escape(&sentence));
        }
        html += "</ul></details>\n";
    }
    html + "</figcaption>\n</figure>\n"
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("a string takes every text");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The claims of all findings as tables in Markdown.
pub fn claims_markdown(findings: &[Findings]) -> String {
    let mut text = String::new();
    for it in findings {
        write_to(
            &mut text,
            format_args!(
                "## {}\n\n`{}`\n\n| claim | source | measured | number | to hold | holds |\n\
                 | --- | --- | --- | --- | --- | --- |\n",
                it.question,
                it.command(),
            ),
        );
        for claim in &it.claims {
            let verdict = if claim.holds { "yes" } else { "**no**" };
            write_to(
                &mut text,
                format_args!(
                    "| {} | {} | {} | {} | {} | {verdict} |\n",
                    claim.statement,
                    claim.source,
                    claim.quantity,
                    claim.measured(),
                    claim.bound,
                ),
            );
        }
        text.push('\n');
        let failing = it
            .claims
            .iter()
            .filter_map(|claim| Some((claim, claim.why?)));
        for (claim, why) in failing {
            write_to(
                &mut text,
                format_args!("- **{}** does not hold. {why}\n", claim.statement),
            );
        }
        if it.claims.iter().any(|claim| claim.why.is_some()) {
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// Writes the [`page`] as `report.html`, and the claims as `claims.md`, into a folder. Returns where
/// the page is.
///
/// # Errors
///
/// A file cannot be written.
pub fn write(folder: &Path, findings: &[Findings]) -> Result<PathBuf, TrainError> {
    let path = folder.join("report.html");
    write_atomically(
        &folder.join("claims.md"),
        claims_markdown(findings).as_bytes(),
    )?;
    write_atomically(&path, page(findings, &today()).as_bytes())?;
    Ok(path)
}

/// Today's date in UTC, as 2026-11-24.
fn today() -> String {
    jiff::Timestamp::now().strftime("%F").to_string()
}
