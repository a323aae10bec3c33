//! Figures as HTML.

use super::words::{both, fill, label, translate_svg};
use crate::figure::{Color, Ends, Figure, Look, Panel, Row, SCALE, Series, Shape, Stroke};

/// A figure; `columns` stand side by side with it.
pub(super) fn figure(section: &str, figure: &Figure, columns: usize) -> String {
    let id = format!("{section}-{}", figure.name);
    let legend: String = figure.legend().into_iter().map(entry).collect();
    let legend = match legend.is_empty() {
        true => legend,
        false => format!("<ul class=\"legend\">{legend}</ul>\n"),
    };
    let numbers: String = figure.numbers().iter().map(ends).collect();
    let (described, numbers) = match numbers.is_empty() {
        true => (format!("{id}-alt"), numbers),
        false => (
            format!("{id}-alt {id}-numbers"),
            fill!("numbers.html", id: id, numbers: numbers),
        ),
    };
    let single = figure.is_single();
    // Where the curves have their names, the legend is left out; a scale of colours stays.
    let named = single && columns == 1 && figure.legend().iter().all(|it| !is_scale(it));
    let classes = [
        (figure.grid, "grid"),
        (single, "single"),
        (named, "named"),
        (columns == 2, "half"),
    ];
    let classes = classes.into_iter().filter(|it| it.0).map(|it| it.1);
    let rows = match figure.grid {
        true => grid(figure, &described),
        false => figure
            .rows
            .iter()
            .map(|it| row(figure, it, &described, columns))
            .collect(),
    };
    let steps = figure.steps.as_ref();
    let steps = steps.map(|what| format!("<p class=\"steps\">{}</p>\n", both(what)));
    let caption: Vec<String> = figure.caption().iter().map(|it| both(it)).collect();
    fill!("figure.html",
        title: both(&figure.title),
        steps: steps.unwrap_or_default(),
        legend: legend,
        caption: caption.join(" "),
        numbers: numbers,
        rows: rows,
        classes: classes.collect::<Vec<_>>().join(" "),
        id: id,
    )
}

fn is_scale(series: &Series) -> bool {
    matches!(series.shape, Shape::Cells(_))
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
    let mark = |x: f64| -> String {
        let mark = series.color.mark().into_iter();
        mark.map(|mark| {
            let corners = mark.corners(4.0).into_iter();
            let corners =
                corners.map(|(across, down)| format!("{:.1},{:.1}", x + across, 6.0 + down));
            let corners = corners.collect::<Vec<_>>().join(" ");
            format!("<polygon points=\"{corners}\" fill=\"{color}\"/>")
        })
        .collect()
    };
    let key = match (&series.shape, series.stroke) {
        (Shape::Cells(_), _) => {
            let part = |(i, share)| {
                let opacity = format!(" stroke-opacity=\"{share}\"");
                path(&format!("M{} 6h7", 7 * i), 10, &opacity)
            };
            (0..).zip(SCALE).map(part).collect()
        }
        (_, Stroke::Solid) => path("M0 6h28", 2, "") + &mark(14.0),
        (_, Stroke::Dashed) => path("M0 6h9M19 6h9", 2, "") + &mark(14.0),
        (_, Stroke::Dotted) if series.color.mark().is_some() => mark(6.0) + &mark(22.0),
        (_, Stroke::Dotted) => path("M6 6h0M22 6h0", 6, " stroke-linecap=\"round\""),
    };
    let label = both(&series.label);
    format!(
        "<li><svg viewBox=\"0 0 28 12\" width=\"28\" height=\"12\" aria-hidden=\"true\">{key}</svg>{label}</li>"
    )
}

/// All panels of a figure in one picture.
fn grid(figure: &Figure, described: &str) -> String {
    let rows = figure.rows.iter().map(|row| row.label.as_str());
    let names = std::iter::once(figure.title.as_str()).chain(rows);
    fill!("row.html",
        name: label(names),
        heading: "",
        described: described,
        panels: translate_svg(&figure.grid_svg()),
    )
}

fn row(figure: &Figure, row: &Row, described: &str, columns: usize) -> String {
    let heading = match row.label.is_empty() {
        true => String::new(),
        false => format!("<p class=\"label\">{}</p>\n", both(&row.label)),
    };
    // The titles of the panels are part of the accessible name.
    let titles = row.panels.iter().map(|panel| panel.title.as_str());
    let names = [figure.title.as_str(), &row.label]
        .into_iter()
        .chain(titles);
    let (wide, narrow) = match (row.panels.len(), columns) {
        (1, 1) => (Look::Wide, Look::Narrow),
        (1, _) => (Look::Half, Look::Narrow),
        (2, _) => (Look::Half, Look::Small),
        (3, _) => (Look::Small, Look::Small),
        _ => (Look::Row, Look::Row),
    };
    fill!("row.html",
        name: label(names),
        heading: heading,
        described: described,
        panels: row.panels.iter().map(|it| panel(it, wide, narrow)).collect::<String>(),
    )
}

/// A panel, once for a wide window and once for a narrow one, if they differ.
fn panel(panel: &Panel, wide: Look, narrow: Look) -> String {
    let svg = |look| translate_svg(&panel.svg(look));
    if wide == narrow {
        return svg(wide);
    }
    let named =
        |class: &str, look| svg(look).replacen("<svg ", &format!("<svg class=\"{class}\" "), 1);
    named("wide", wide) + &named("narrow", narrow)
}

/// A table of where the curves of a panel start and end.
fn ends(ends: &Ends) -> String {
    let caption = [&ends.panel, &ends.quantity]
        .into_iter()
        .filter(|it| !it.is_empty());
    let caption: Vec<_> = caption.map(|it| both(it)).collect();
    let curves = ends.curves.iter().map(|(curve, [first, last])| {
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
            both(curve),
            both(first),
            both(last)
        )
    });
    fill!("ends.html", caption: caption.join(", "), curves: curves.collect::<String>())
}
