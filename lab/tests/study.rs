//! The experiments and the page: checks their files, and that repeated runs give the same ones.
#![cfg(feature = "flex")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use burn::module::Module;
use burn::tensor::Device;
use burn_kindling::init::InitStrategy;
use burn_kindling_lab::data::Mnist;
use burn_kindling_lab::figure::{
    Axis, Cell, Color, Figure, Panel, Series, Shape, Stroke, median, spread,
};
use burn_kindling_lab::model::{Classifier, MlpConfig, ModelConfig, Normalization};
use burn_kindling_lab::page;
use burn_kindling_lab::study::{
    Bound, Experiment, ExperimentError, Findings, Guess, Language, Results, Setup, Size, Source,
    Table, Verdict,
};
use burn_kindling_lab::train::{Outcome, RunFolder, TrainConfig, Trainer};

static MNIST: LazyLock<Mnist> = LazyLock::new(|| Mnist::load(&Mnist::find(None).unwrap()).unwrap());

fn quick(out: &Path) -> Setup {
    let mut setup = Setup::new(Device::flex(), MNIST.clone(), out);
    setup.size = Size::Quick;
    setup.seeds = Some(1);
    setup
}

/// All files in a folder and its subfolders, by relative path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        match path.is_dir() {
            true => {
                let below = files(&path).into_iter();
                found.extend(below.map(|(it, bytes)| (format!("{name}/{it}"), bytes)));
            }
            false => {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_experiment_leaves_numbers_figures_and_claims_and_the_page_tells_them_all() {
    let out = tempfile::tempdir().unwrap();
    let setup = quick(out.path());
    let findings: Vec<Findings> = Experiment::ALL
        .into_iter()
        .map(|experiment| experiment.run(&setup).unwrap())
        .collect();

    for it in &findings {
        let folder = out.path().join(it.experiment.to_string());
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let (claims, table) = (&it.results.claims, &it.results.table);
        assert!(!claims.is_empty() && !it.results.figures.is_empty());
        assert_eq!(read("data.csv").lines().count(), table.rows().len() + 1);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&read("data.json")).unwrap();
        assert_eq!(rows.len(), table.rows().len());
        let written: Vec<serde_json::Value> = serde_json::from_str(&read("claims.json")).unwrap();
        assert_eq!(written.len(), claims.len());
        for (written, claim) in written.iter().zip(claims) {
            assert_eq!(written["statement"], claim.statement);
            assert_eq!(written["holds"], claim.bound.holds(claim.measured));
        }
        for figure in &it.results.figures {
            let svg = read(&format!("{}.svg", figure.name));
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(
                !svg.contains("NaN") && !svg.contains("inf"),
                "{}",
                figure.name
            );
            let png = fs::read(folder.join(format!("{}.png", figure.name))).unwrap();
            assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
        }
    }

    let page = page::write(out.path(), &findings).unwrap();
    let html = fs::read_to_string(page).unwrap();
    let markdown = fs::read_to_string(out.path().join("claims.md")).unwrap();
    for it in &findings {
        assert!(html.contains(&format!("<section id=\"{}\">", it.experiment)));
        assert!(html.contains(it.experiment.question()) && html.contains(&it.command()));
        assert!(markdown.contains(it.experiment.question()));
        for figure in &it.results.figures {
            assert!(html.contains(&format!("<figure id=\"{}-{}\"", it.experiment, figure.name)));
        }
        for claim in &it.results.claims {
            // One seed does not show how far apart repeated runs are.
            assert!(!claim.source.starts_with("burn"));
            assert!(html.contains(&claim.measured()));
            assert!(markdown.contains(&claim.statement));
        }
    }
    assert!(html.contains("<dt>Batch norm</dt>") && !html.contains("{{") && !html.contains("[["));
    // No text lacks its Korean.
    let lacking = html.split("data-untranslated").skip(1);
    let lacking: Vec<&str> = lacking.map(|it| it.split("</").next().unwrap()).collect();
    assert!(lacking.is_empty(), "{lacking:#?}");
    for it in &findings {
        for language in Language::ALL {
            let story = it.story(language);
            assert!(!story.contains('{'), "{}: {story}", it.experiment);
        }
    }
    // What the quick size cannot show is not refuted.
    let unknown: usize = findings
        .iter()
        .map(|it| it.count(Verdict::NeedsFullRun))
        .sum();
    assert_eq!(html.matches("class=\"unknown\"").count(), unknown);
    for it in &findings {
        let fails = it.count(Verdict::Fails);
        let untrained = [Experiment::InitDistributions, Experiment::BatchNormShift];
        assert!(
            fails == 0 || untrained.contains(&it.experiment),
            "{}",
            it.experiment
        );
    }
    // The page fetches nothing: its only address is the name of the SVG format.
    let addresses = html.matches("http").count();
    assert_eq!(
        addresses,
        html.matches("http://www.w3.org/2000/svg").count()
    );
    assert!(!html.contains("src=") && !html.contains("@import") && !html.contains("url("));

    // Running the experiments again gives the same files and repeats no run.
    let before = files(out.path());
    let times = |of: &Path| -> Vec<_> {
        let runs = of.join("batch-norm-training").join("runs");
        let entries = fs::read_dir(runs).unwrap();
        let times = entries.map(|it| it.unwrap().metadata().unwrap().modified().unwrap());
        times.collect()
    };
    let written = times(out.path());
    let again: Vec<Findings> = Experiment::ALL
        .into_iter()
        .map(|experiment| experiment.run(&setup).unwrap())
        .collect();
    page::write(out.path(), &again).unwrap();
    assert_eq!(times(out.path()), written);
    assert!(
        files(out.path()) == before,
        "the second run wrote something else"
    );
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let [one, several] = [1, 3].map(|workers| {
        let out = tempfile::tempdir().unwrap();
        let mut setup = quick(out.path());
        setup.workers = workers;
        Experiment::InitDistributions.run(&setup).unwrap();
        files(out.path())
    });
    assert!(one == several);
}

#[test]
fn what_initialisation_does_is_what_the_theory_says() {
    let out = tempfile::tempdir().unwrap();
    let mut setup = quick(out.path());
    setup.seeds = Some(3);
    let findings = Experiment::InitDistributions.run(&setup).unwrap();
    let theory = findings.results.claims.last().unwrap();
    assert!(theory.statement.contains("theory"));
    assert!(theory.holds, "{theory:?}");
}

#[test]
fn orthogonal_weights_keep_the_singular_values_together_as_the_theory_says() {
    let out = tempfile::tempdir().unwrap();
    let findings = Experiment::InitOrthogonal.run(&quick(out.path())).unwrap();
    // The claims about the network before training.
    for claim in &findings.results.claims[..3] {
        assert!(claim.holds, "{claim:?}");
    }
}

#[test]
fn the_deepest_networks_learn_close_to_criticality() {
    let out = tempfile::tempdir().unwrap();
    let findings = Experiment::InitTrainableDepth
        .run(&quick(out.path()))
        .unwrap();
    let best = &findings.results.claims[0];
    assert!(best.holds, "{best:?}");
}

#[test]
fn a_stopped_experiment_goes_on_from_its_finished_runs() {
    let out = tempfile::tempdir().unwrap();
    let setup = quick(out.path());
    setup.interrupter.stop(None);
    let error = Experiment::InitTraining.run(&setup).unwrap_err();
    assert!(matches!(error, ExperimentError::Interrupted), "{error}");
    assert!(
        !out.path()
            .join("init-training")
            .join("claims.json")
            .exists()
    );

    setup.interrupter.reset();
    let whole = Experiment::InitTraining.run(&setup).unwrap();
    // A lost run and a damaged run are repeated; the others are kept.
    let folder = out.path().join("init-training").join("runs");
    let mut runs: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    runs.sort();
    let originals: Vec<_> = runs.iter().map(|path| fs::read(path).unwrap()).collect();
    fs::remove_file(&runs[0]).unwrap();
    fs::write(&runs[1], b"{\"config\":").unwrap();
    let repaired = Experiment::InitTraining.run(&setup).unwrap();
    assert_eq!(repaired.results.claims, whole.results.claims);
    for (path, original) in runs.iter().zip(originals) {
        assert!(fs::read(path).unwrap() == original, "{}", path.display());
    }
}

#[test]
fn runs_on_other_data_are_not_taken_for_these() {
    let out = tempfile::tempdir().unwrap();
    let runs = |data: &Mnist| {
        let mut setup = Setup::new(Device::flex(), data.clone(), out.path());
        setup.size = Size::Quick;
        setup.seeds = Some(1);
        Experiment::InitDistributions.run(&setup).unwrap();
        let runs = out.path().join("init-distributions").join("runs");
        fs::read_dir(runs).unwrap().count()
    };
    let mut other = MNIST.clone();
    other.test = other.test.subset(1..other.test.len());
    let first = runs(&MNIST);
    assert_eq!([runs(&MNIST), runs(&other)], [first, 2 * first]);
}

#[test]
fn with_fewer_images_than_asked_for_an_accuracy_is_still_that_of_its_epoch() {
    let out = tempfile::tempdir().unwrap();
    let data = Mnist {
        train: MNIST.train.subset(0..1200),
        test: MNIST.test.subset(0..100),
    };
    let mut setup = Setup::new(Device::flex(), data, out.path());
    setup.size = Size::Quick;
    setup.seeds = Some(1);
    let findings = Experiment::InitTraining.run(&setup).unwrap();
    let rows = findings.results.table.json();
    let steps: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["strategy"] == "he" && row["quantity"] == "validation_accuracy")
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    // 1100 images in batches of 128.
    assert_eq!(steps, [9, 18, 27, 36]);
}

#[test]
fn a_claim_holds_only_within_its_bound() {
    assert!(Bound::AtLeast(2.0).holds(2.0) && !Bound::AtLeast(2.0).holds(1.9));
    assert!(Bound::AtMost(2.0).holds(2.0) && !Bound::AtMost(2.0).holds(2.1));
    assert!(Bound::Above(2.0).holds(2.1) && !Bound::Above(2.0).holds(2.0));
    assert!(Bound::Below(2.0).holds(1.9) && !Bound::Below(2.0).holds(2.0));
    let between = Bound::Between(1.0, 2.0);
    assert!(between.holds(1.0) && between.holds(2.0));
    assert!(!between.holds(0.9) && !between.holds(2.1));
    for bound in [Bound::AtLeast(0.0), Bound::AtMost(0.0), between] {
        assert!(!bound.holds(f64::NAN));
    }
    let claim = |value| {
        let statement = Source("me").says("it").measured("number", value);
        statement.holds_if(Bound::AtMost(0.5))
    };
    let shown = |measured| {
        let claim = claim(measured);
        (claim.measured(), claim.bound.to_string(), claim.holds)
    };
    assert_eq!(
        shown(0.123456),
        ("0.1235".into(), "at most 0.5".into(), true)
    );
    assert_eq!(shown(1234.56).0, "1235");
    assert_eq!(shown(12.0).0, "12");
    assert_eq!(shown(1.5e-7).0, "1.50e-7");
    assert!(!shown(f64::NAN).2);
    let why = |measured| {
        let claim = claim(measured);
        claim.why("so").why
    };
    assert_eq!([why(0.5), why(0.6)], [None, Some("so")]);
}

#[test]
fn a_table_is_the_same_in_csv_and_json() {
    let mut table = Table::new(&["name", "step"]);
    table.add(("plain", 1), [("loss", 1.5), ("accuracy", f64::NAN)]);
    table.add(
        ("with, comma and \"quotes\"", None::<usize>),
        [("loss", 2.0)],
    );
    assert_eq!(
        table.csv(),
        "name,step,quantity,value\nplain,1,loss,1.5\nplain,1,accuracy,\n\
         \"with, comma and \"\"quotes\"\"\",,loss,2.0\n"
    );
    let json = table.json();
    assert_eq!(json[0]["value"], 1.5);
    assert!(json[1]["value"].is_null());
    assert_eq!(json[2]["name"], "with, comma and \"quotes\"");
    assert!(json[2]["step"].is_null());
}

#[test]
#[should_panic(expected = "one cell for each of")]
fn a_row_of_another_width_panics() {
    Table::new(&["name", "step"]).add((1,), [("loss", 1.0)]);
}

#[test]
fn a_story_is_a_question_and_paragraphs_in_both_languages() {
    for experiment in Experiment::ALL {
        let [english, korean] = Language::ALL.map(|it| experiment.question_in(it));
        assert_eq!(english, experiment.question());
        assert!(
            !english.is_empty() && !english.starts_with('#'),
            "{english}"
        );
        let hangul = |text: &str| text.chars().any(|it| ('가'..='힣').contains(&it));
        assert!(hangul(korean) && !hangul(english), "{korean}");
        let [english, korean] = Language::ALL.map(|it| experiment.story_in(it));
        assert!(hangul(korean) && !hangul(english), "{experiment}");
        // Both have the same paragraphs, and name the same numbers in them.
        let numbers = |story: &'static str| -> Vec<Vec<&str>> {
            let paragraphs = story.trim().split("\n\n").map(|paragraph| {
                let names = paragraph.split('{').skip(1);
                let names = names.map(|it| it.split_once('}').unwrap().0);
                let mut names: Vec<&str> = names.collect();
                names.sort();
                names.dedup();
                names
            });
            paragraphs.collect()
        };
        assert_eq!(numbers(english), numbers(korean), "{experiment}");
    }
}

#[test]
fn a_story_tells_what_was_measured_at_its_size() {
    let findings = |size| Findings {
        experiment: Experiment::BatchNormTraining,
        size,
        seeds: None,
        device: String::new(),
        results: Results {
            facts: vec![("scales", "16".into())],
            ..Results::default()
        },
    };
    let [full, quick] = [Size::Full, Size::Quick].map(|it| findings(it).story(Language::English));
    assert!(full.contains("of 16 sizes") && quick.contains("of 16 sizes"));
    assert!(full.contains("effective learning rate") && !quick.contains("effective learning rate"));
    assert!(!full.contains("{full}"));
}

#[test]
fn the_quick_size_does_not_refute_a_claim() {
    let statement = Source("me").says("it").measured("number", 1.0);
    let claim = statement.holds_if(Bound::AtMost(0.5));
    let verdict = |experiment, size| {
        let findings = Findings {
            experiment,
            size,
            seeds: None,
            device: String::new(),
            results: Results::default(),
        };
        findings.verdict(&claim)
    };
    let (trained, untrained) = (Experiment::InitTraining, Experiment::InitDistributions);
    assert_eq!(verdict(trained, Size::Full), Verdict::Fails);
    assert_eq!(verdict(trained, Size::Quick), Verdict::NeedsFullRun);
    // The same networks at either size, only fewer of them.
    assert_eq!(verdict(untrained, Size::Quick), Verdict::Fails);
}

#[test]
fn the_answer_to_a_question_is_the_choice_with_the_best_finite_number() {
    let choices = |numbers: [f64; 3]| ["a", "b", "c"].map(String::from).into_iter().zip(numbers);
    let least = |numbers| Guess::least("which?", "steps", choices(numbers)).answer();
    let most = |numbers| Guess::most("which?", "share", choices(numbers)).answer();
    assert_eq!(least([f64::INFINITY, 3.0, 2.0]), Some(2));
    assert_eq!(most([f64::INFINITY, 3.0, 2.0]), Some(1));
    assert_eq!(most([0.5, 0.5, f64::NAN]), Some(0));
    assert_eq!(least([f64::INFINITY; 3]), None);
}

#[test]
fn the_spread_of_values_is_their_least_median_and_largest() {
    assert_eq!(spread(&[3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
    assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), [1.0, 2.5, 4.0]);
    assert_eq!(median(&[f64::NAN, 1.0, 2.0]), 2.0);
    assert_eq!(spread(&[f64::NAN, 1.0])[2], f64::INFINITY);
}

fn figure(series: Vec<Series>, log: bool) -> Figure {
    let axis = match log {
        true => Axis::log("x (m)", [0.01, 100.0]),
        false => Axis::linear("x (m)", [0.0, 10.0]),
    };
    let panel = Panel::new(axis.clone(), axis).titled("a < b").with(series);
    Figure::new("figure", "title", "alt").row("row", [panel])
}

#[test]
fn nothing_is_drawn_outside_the_picture() {
    let points = vec![
        [1.0, 1.0],
        [2.0, f64::NAN],
        [3.0, 2.0],
        [4.0, 1e300],
        [5.0, f64::INFINITY],
    ];
    let triples = points.iter().map(|&[x, y]| [x, y, y]).collect::<Vec<_>>();
    for log in [false, true] {
        let line = Series::line("", Color::BLUE, points.clone());
        let bars = points.iter().map(|&[x, y]| [x, x + 0.5, y]).collect();
        let series = vec![
            line.clone().stroke(Stroke::Dashed),
            line.clone().stroke(Stroke::Dotted),
            line,
            Series::new("", Color::BLUE, Shape::Bars(bars)),
            Series::new("", Color::BLUE, Shape::Band(triples.clone())),
            Series::line("", Color::BLUE, [[-1.0, 0.0]]),
            Series::line("", Color::BLUE, []),
        ];
        let figure = figure(series, log);
        let svg = figure.svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        // Every point of every line lies within the picture.
        let size = |name: &str| -> f64 {
            let (_, rest) = svg.split_once(&format!("{name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        let (width, height) = (size("width"), size("height"));
        for list in svg.split("points=\"").skip(1) {
            for point in list.split_once('"').unwrap().0.split_whitespace() {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y));
            }
        }
        assert!(svg.contains("a &lt; b"));
        // The PNG has twice the size of the figure.
        let png = figure.png();
        let pixels = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!(
            [pixels(16), pixels(20)],
            [2 * width as u32, 2 * height as u32]
        );
    }
}

#[test]
fn a_line_ends_where_it_leaves_the_axes_and_a_triangle_says_so() {
    let drawn = |points: &[[f64; 2]]| {
        let series = Series::line("curve", Color::BLUE, points.to_vec());
        let figure = figure(vec![series], false);
        let svg = figure.svg();
        let mut lines = svg.lines().filter(|it| it.starts_with("<polyline"));
        let line = lines.find(|it| it.contains("#0072B2") && it.contains("stroke-width=\"2\""));
        let line = line.map(str::to_string);
        // A mark of this colour has four corners.
        let polygons = svg.split("<polygon").skip(1);
        let corners = polygons.map(|it| {
            let points = it.split("points=\"").nth(1).unwrap();
            points.split('"').next().unwrap().split_whitespace().count()
        });
        let triangles = corners.filter(|&it| it == 3).count();
        let told = figure.caption().iter().any(|it| it.contains("A triangle"));
        (line, triangles, told)
    };
    let within = drawn(&[[0.0, 0.0], [5.0, 10.0]]);
    let beyond = drawn(&[[0.0, 0.0], [10.0, 20.0]]);
    assert_eq!(within.0, beyond.0);
    assert_eq!([within.1, beyond.1], [0, 1]);
    assert_eq!([within.2, beyond.2], [false, true]);
    // The curve leaves, returns, and leaves at the other end.
    assert_eq!(
        drawn(&[[0.0, 5.0], [2.0, 50.0], [4.0, 5.0], [6.0, -50.0]]).1,
        2
    );
    assert_eq!(
        drawn(&[[0.0, 5.0], [2.0, f64::NAN], [4.0, f64::INFINITY]]).1,
        1
    );
}

#[test]
fn a_cell_is_as_opaque_as_its_share_and_ends_at_the_axes() {
    let svg = |cell: Cell| {
        figure(
            vec![Series::new("heat", Color::BLUE, Shape::Cells(vec![cell]))],
            false,
        )
        .svg()
    };
    let opacities = |svg: &str| -> Vec<String> {
        let cells = svg
            .lines()
            .filter(|it| it.starts_with("<rect") && it.contains("#0072B2"));
        let opacity = |line: &str| {
            line.split_once(" opacity=\"")
                .unwrap()
                .1
                .split_once('"')
                .unwrap()
                .0
                .to_string()
        };
        cells.map(opacity).collect()
    };
    let cell = |x, share| Cell {
        x,
        y: [0.0, 5.0],
        share,
    };
    let whole = svg(cell([0.0, 10.0], 0.6));
    // The legend comes first.
    assert_eq!(opacities(&whole), ["0.25", "0.5", "0.75", "1", "0.6"]);
    assert_eq!(svg(cell([-3.0, 1e9], 0.6)), whole);
    assert_eq!(opacities(&svg(cell([0.0, 10.0], f64::NAN))).len(), 4);
}

#[test]
fn a_short_logarithmic_axis_has_ticks_between_the_powers_of_ten() {
    let ticks = |range| {
        let axis = Axis::log("x", range);
        let panel = Panel::new(axis.clone(), axis);
        let svg = Figure::new("figure", "title", "alt").panel(panel).svg();
        let lines = svg.lines().map(str::to_string);
        let numbers = lines.filter(|it| it.parse::<f64>().is_ok());
        numbers.collect::<Vec<_>>()
    };
    // Both axes have the same ones.
    let mut short = ticks([0.4, 25.0]);
    short.sort();
    short.dedup();
    assert_eq!(short, ["0.5", "1", "10", "2", "20", "5"]);
    let mut long = ticks([1.0, 1000.0]);
    long.sort();
    long.dedup();
    assert_eq!(long, ["1", "10", "100", "1000"]);
}

#[test]
fn a_table_says_where_curves_start_and_end() {
    let series = [
        Series::line("first", Color::BLUE, [[0.0, 1.0], [9.0, 2.5]]),
        Series::line("second", Color::INK, [[0.0, 3.0], [9.0, 3.0]]).stroke(Stroke::Dashed),
    ];
    let numbers = figure(series.into(), false).numbers();
    let curve = |name: &str, ends: [&str; 2]| (name.to_string(), ends.map(String::from));
    assert_eq!(
        numbers[0].curves,
        [curve("first", ["1", "2.5"]), curve("second", ["3", "3"])]
    );
    assert_eq!(
        [&numbers[0].panel, &numbers[0].quantity],
        ["a < b", "x (m)"]
    );
}

#[test]
fn colours_can_be_seen_on_the_light_page_and_on_the_dark_one() {
    let luminance = |Color(r, g, b): Color| {
        let linear = |value: u8| match f64::from(value) / 255.0 {
            value if value <= 0.04045 => value / 12.92,
            value => ((value + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    };
    let [light, dark] = [Color(0xf5, 0xf6, 0xf8), Color(0x1d, 0x20, 0x25)].map(luminance);
    let norms = Normalization::ALL.map(Color::from).into_iter();
    let colors = InitStrategy::ALL.map(Color::from).into_iter().chain(norms);
    for color in colors.filter(|&it| it != Color::INK) {
        let own = luminance(color);
        assert!((light + 0.05) / (own + 0.05) >= 3.0, "{color:?}");
        assert!((own + 0.05) / (dark + 0.05) >= 3.0, "{color:?}");
    }
}

#[test]
fn a_strategy_has_a_colour_and_a_mark_of_its_own() {
    let strategies = InitStrategy::ALL.map(Color::from);
    let norms = Normalization::ALL.map(Color::from);
    let colors: Vec<Color> = strategies.into_iter().chain(norms).collect();
    for (i, color) in colors.iter().enumerate() {
        assert!(
            !colors[..i].contains(color),
            "{color:?} stands for two things"
        );
        // Nobody has to tell colours apart: only networks without a norm have no mark.
        assert_eq!(color.mark().is_none(), *color == Color::INK);
        assert!(!colors[..i].iter().any(|it| it.mark() == color.mark()));
    }
}

#[test]
fn small_multiples_share_their_axes() {
    let cell = |title: &str| {
        let bars = Shape::Bars(vec![[0.0, 5.0, 5.0]]);
        Panel::new(
            Axis::linear("x (m)", [0.0, 10.0]),
            Axis::linear("y", [0.0, 10.0]),
        )
        .titled(title)
        .noted(["std 1".to_string()])
        .with([Series::new("", Color::BLUE, bars)])
    };
    let figure = Figure::new("figure", "title", "alt");
    let figure = ["first", "second"].into_iter().fold(figure, |figure, row| {
        figure.row(row, ["left", "middle", "right"].map(cell))
    });
    let svg = figure.as_grid().svg();
    let count = |text: &str| svg.lines().filter(|line| line.trim() == text).count();
    assert_eq!(["left", "first", "second", "x (m)"].map(count), [1; 4]);
    // One set of ticks for each column, and a note in every cell.
    assert_eq!([count("10"), count("std 1")], [3, 6]);
}

#[test]
fn training_in_memory_is_training_in_a_folder() {
    let data = Mnist {
        train: MNIST.train.subset(0..1200),
        test: MNIST.test.subset(0..100),
    };
    let config = TrainConfig {
        epochs: 2,
        ..TrainConfig::default()
    };
    let trainer = Trainer::new(Device::flex());
    let scratch = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(scratch.path().join("run"), &config).unwrap();
    let kept = trainer.run(&folder, &data).unwrap();

    let (train, valid) = data.train_and_validation();
    let (sender, steps) = std::sync::mpsc::channel();
    let trained = trainer
        .train(&config, &train, &valid, move |it| {
            let loss = it.loss.clone().into_scalar::<f32>();
            sender
                .send((it.step, loss, it.batch.targets.dims()[0]))
                .unwrap();
        })
        .unwrap();
    assert_eq!(trained.outcome, Outcome::Completed);
    assert_eq!(trained.epochs, kept.epochs);

    // 1100 images in batches of 128: nine steps per epoch.
    let steps: Vec<_> = steps.iter().collect();
    assert!(steps.iter().map(|it| it.0).eq(1..=18));
    let epoch = &steps[..9];
    let images: usize = epoch.iter().map(|it| it.2).sum();
    let sum: f64 = epoch.iter().map(|it| f64::from(it.1) * it.2 as f64).sum();
    assert!((sum / images as f64 - kept.epochs[0].train.loss).abs() < 1e-5);
}

#[test]
fn networks_drawn_at_the_same_time_are_those_drawn_one_after_the_other() {
    let weights = |seed: u64| {
        let config = TrainConfig {
            seed,
            ..TrainConfig::default()
        };
        config.init_model(&Device::flex())
    };
    let numbers = |model: Classifier| {
        let Classifier::Mlp(model) = model else {
            panic!("the default network is an MLP")
        };
        let values = model.hidden.iter().map(|block| block.affine.weight.val());
        let values = values.map(|it| it.into_data().try_to_vec::<f32>().unwrap());
        values.collect::<Vec<_>>()
    };
    let alone: Vec<_> = (0..8).map(|seed| numbers(weights(seed))).collect();
    // Drawn on several threads, compared later.
    let threads: Vec<_> = (0..8)
        .map(|seed| std::thread::spawn(move || weights(seed)))
        .collect();
    let models: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    for (model, alone) in models.into_iter().zip(alone) {
        assert!(numbers(model) == alone);
    }
}

#[test]
fn the_weight_scale_is_the_standard_deviation_of_standard_normal_weights() {
    let device = Device::flex();
    let config = TrainConfig {
        model: ModelConfig::Mlp(
            MlpConfig::new()
                .with_init(InitStrategy::StandardNormal)
                .with_weight_scale(0.02),
        ),
        ..TrainConfig::default()
    };
    let Classifier::Mlp(model) = config.init_model(&device.clone().autodiff()) else {
        panic!("an MLP was asked for")
    };
    let weight = model.hidden[0].affine.weight.val();
    assert!(weight.is_require_grad());
    let std = weight.square().mean().sqrt().into_scalar::<f64>();
    assert!((std / 0.02 - 1.0).abs() < 0.02, "{std}");
    assert_eq!(
        model.num_params(),
        MlpConfig::new().init(&device).num_params()
    );
}
