//! The report as text and as data.

use burn::nn::LinearConfig;
use burn::tensor::{Device, Tensor};
use burn_kindling::init::{Activation, InitStrategy, initialize};
use burn_kindling::observe::{Histogram, Observer, Point, Report, watch};

use crate::{any_device, tensor};

fn report(device: &Device) -> Report {
    let device = device.clone().autodiff();
    let model = initialize(
        LinearConfig::new(2, 1).init(&device),
        InitStrategy::Zeros,
        1,
    )
    .0;
    let x = tensor(&[0.0, 1.0, 2.0, 4.0], [2, 2], &device).require_grad();
    let (y, mut seen) = Observer::new().with_bins(4).run(|| {
        let x = Point::new("relu").after(Activation::Relu).watch(x);
        watch("broken", x.clone().log());
        watch("empty", Tensor::<2>::zeros([0, 3], &device));
        watch("output", x * 0.001)
    });
    seen.backward(&model, &y.square().sum().backward());
    seen.report()
}

#[test]
fn it_prints_as_aligned_tables() {
    let printed = report(&any_device()).to_string();
    let expected = "\
layer   shape    mean     std  spread  min     max   zero   sat.  dead  copies  grad std  histogram
relu    2x2     1.750   1.479   1.275    0   4.000  25.0%  25.0%     0       0    3.0e-6  ████
broken  2x2     0.693   0.566   0.490    0   1.386  25.0%      -     0       0         -  █ ██
empty   0x3         -       -       -    -       -      -      -     0       0         -
output  2x2    1.8e-3  1.5e-3  1.3e-3    0  4.0e-3  25.0%      -     0       0    3.0e-3  ████
! broken has 0 NaN and 1 infinite of 4 values; the rest is described
! empty is empty

parameter  shape  std  grad std  grad:data  log10 update:data
weight     2x1      0         -          -                  -
bias       1        0         -          -                  -
";
    assert_eq!(printed, expected, "\n{printed}");
    assert_eq!(Report::default().to_string(), "");
}

#[test]
fn it_goes_through_json_and_back() {
    let report = report(&any_device());
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["layers"][2]["data"]["mean"].is_null());
    let read: Report = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
    assert_eq!(read.layers[0], report.layers[0]);
    assert!(read.layers[2].data.mean.is_nan());
}

/// A histogram as printed: the last column in the report of one layer.
fn printed(counts: &[usize]) -> String {
    let x = Tensor::<2>::zeros([1, 1], &any_device());
    let (_, seen) = Observer::new().run(|| watch("x", x));
    let mut report = seen.report();
    report.layers[0].data.histogram.counts = counts.to_vec();
    let printed = report.to_string();
    let mut lines = printed.lines();
    let column = lines.next().unwrap().find("histogram").unwrap();
    lines.next().unwrap()[column..].to_owned()
}

#[test]
fn a_histogram_prints_every_bin_that_is_not_empty() {
    assert_eq!(printed(&[0, 1, 1000, 250]), " ▁█▄");
    assert_eq!(printed(&[0, 0, 4]), "  █");
    assert_eq!(printed(&[1, 4, 9, 16, 25, 36, 49, 64]), "▁▂▃▄▅▆▇█");
}

#[test]
fn a_histogram_has_an_edge_more_than_bins() {
    let histogram = Histogram {
        range: [0.0, 1.0],
        counts: vec![0; 4],
        below: 0,
        above: 0,
    };
    assert_eq!(histogram.edges(), [0.0, 0.25, 0.5, 0.75, 1.0]);
}
