//! Every statistic of a tensor, compared with f64 on the host.

use burn::nn::Linear;
use burn::tensor::{DType, Tensor};
use burn_kindling::observe::{Histogram, Observer, Summary, watch};
use proptest::prelude::*;

use crate::{assert_close, devices, normal, numbers, tensor};

const RANKS: [f64; 6] = [0.0, 15.0, 50.0, 85.0, 99.5, 100.0];

fn summary<const D: usize>(observer: &Observer, tensor: Tensor<D>) -> Summary {
    let (_, seen) = observer.run(|| watch("point", tensor));
    let mut layers = seen.report().layers;
    assert_eq!(layers.len(), 1);
    layers.remove(0).data
}

/// Panics unless the summary, computed in f32, matches these values.
fn check(found: &Summary, values: &[f64], ranks: &[f64], tolerance: f64) {
    let finite: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
    let count = finite.len() as f64;
    let nan = values.iter().filter(|x| x.is_nan()).count();
    assert_eq!(found.count, values.len());
    assert_eq!(found.nan, nan);
    assert_eq!(found.infinite, values.len() - finite.len() - nan);

    let mut sorted = finite.clone();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
    let largest = min.abs().max(max.abs());
    assert_eq!(found.min, min);
    assert_eq!(found.max, max);

    let mean = finite.iter().sum::<f64>() / count;
    let variance = finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    assert_close(found.mean, mean, largest, tolerance);
    assert_close(found.std, variance.sqrt(), largest, tolerance);
    let zeros = values.iter().filter(|&&x| x == 0.0).count();
    assert_eq!(found.zeros, zeros as f64 / values.len() as f64);

    assert_eq!(found.percentiles.len(), ranks.len());
    for (found, &rank) in found.percentiles.iter().zip(ranks) {
        let position = rank / 100.0 * (count - 1.0);
        let (below, weight) = (position.floor(), position.fract());
        let above = sorted[position.ceil() as usize];
        let expected = sorted[below as usize] * (1.0 - weight) + above * weight;
        assert_eq!(found.rank, rank);
        // The position is an f32 on the device: at 10^4, it has an error of up to 1e-3.
        let gap = above - sorted[below as usize];
        assert_close(found.value, expected, largest * tolerance + 1e-3 * gap, 1.0);
    }
    check_histogram(&found.histogram, &finite);
}

/// Panics unless each bin has the expected count, apart from values so close to an edge that rounding may move them.
fn check_histogram(found: &Histogram, finite: &[f64]) {
    let [low, high] = found.range;
    let bins = found.counts.len();
    let edges = found.edges();
    assert_eq!(edges.len(), bins + 1);
    assert_eq!(found.below, finite.iter().filter(|&&x| x < low).count());
    assert_eq!(found.above, finite.iter().filter(|&&x| x > high).count());
    let inside = finite.len() - found.below - found.above;
    assert_eq!(found.counts.iter().sum::<usize>(), inside);

    let largest = finite
        .iter()
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let rounding = 1e-6 * (high - low).max(largest);
    for (bin, &count) in found.counts.iter().enumerate() {
        let [start, end] = [edges[bin], edges[bin + 1]];
        let last = bin + 1 == bins;
        let expected = finite
            .iter()
            .filter(|&&x| start <= x && (x < end || last && x == end))
            .count();
        let doubtful = finite
            .iter()
            .filter(|&&x| (x - start).abs() < rounding || (x - end).abs() < rounding)
            .count();
        assert!(
            count.abs_diff(expected) <= doubtful,
            "bin {bin}: found {count}, expected {expected}, {doubtful} close to an edge"
        );
    }
}

#[test]
fn every_statistic_agrees_with_f64() {
    let observer = Observer::new().with_percentiles(RANKS);
    for device in devices() {
        let values = normal(128 * 100, 1);
        let found = summary(&observer, tensor(&values, [128, 100], &device));
        check(&found, &values, &RANKS, 1e-6);
        assert_eq!(found.histogram.counts.len(), 30);
        assert_eq!(found.histogram.range, [found.min, found.max]);

        let values = normal(4 * 6 * 5 * 7, 2);
        let rectified: Vec<f64> = values.iter().map(|x| x.max(0.0)).collect();
        let found = summary(&observer, tensor(&rectified, [4, 6, 5, 7], &device));
        check(&found, &rectified, &RANKS, 1e-6);
        assert!(found.zeros > 0.4);
    }
}

#[test]
fn a_range_and_bins_can_be_chosen() {
    let observer = Observer::new().with_range(-1.0, 2.0).with_bins(7);
    for device in devices() {
        let values = normal(3000, 3);
        let found = summary(&observer, tensor(&values, [300, 10], &device));
        assert_eq!(found.histogram.range, [-1.0, 2.0]);
        assert_eq!(found.histogram.counts.len(), 7);
        assert!(found.histogram.below > 0 && found.histogram.above > 0);
        check_histogram(&found.histogram, &values);
    }
}

#[test]
fn gradients_can_be_counted_by_decades() {
    let observer = Observer::new().with_bins(6);
    let observer = observer.with_gradient_decades(-4.0, 2.0);
    let gradient = [0.0, 1e-6, -3e-4, 3e-4, 2e-3, 0.5, -0.7, 20.0, 5e3];
    for device in devices() {
        let device = device.autodiff();
        let x: Tensor<2> = tensor(&[1.0; 9], [9, 1], &device).require_grad();
        let slopes = tensor(&gradient, [9, 1], &device);
        let (loss, mut seen) = observer.run(|| (watch("point", x) * slopes).sum());
        seen.backward(&Vec::<Linear>::new(), &loss.backward());
        let layer = seen.report().layers.remove(0);
        // Of the values themselves, the histogram is a plain one.
        assert_eq!(layer.data.histogram.range, [0.5, 1.5]);
        let found = layer.gradient.expect("a gradient").histogram;
        assert_eq!(found.range, [-4.0, 2.0]);
        assert_eq!(found.counts, [2, 1, 0, 2, 0, 1]);
        assert_eq!((found.below, found.above), (2, 1));
    }
}

#[test]
fn bins_hold_their_lower_end_and_the_last_one_both() {
    let values = [-2.0, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.0, 1.5];
    let observer = Observer::new().with_range(-1.0, 1.0).with_bins(4);
    for device in devices() {
        let found = summary(&observer, tensor(&values, [9, 1], &device)).histogram;
        assert_eq!(found.counts, [1, 1, 2, 3]);
        assert_eq!((found.below, found.above), (1, 1));
    }
}

#[test]
fn faded_exploded_and_shifted_signals_are_measured() {
    let observer = Observer::new().with_percentiles(RANKS);
    for device in devices() {
        for (factor, shift) in [(1e-30, 0.0), (1e30, 0.0), (1.0, 100.0)] {
            let values: Vec<f64> = normal(64 * 32, 4)
                .iter()
                .map(|x| f64::from((x * factor + shift) as f32))
                .collect();
            let found = summary(&observer, tensor(&values, [64, 32], &device));
            check(&found, &values, &RANKS, 1e-6);
        }
    }
}

#[test]
fn what_is_not_finite_is_counted_and_left_out() {
    let observer = Observer::new().with_percentiles(RANKS);
    for device in devices() {
        let mut values = normal(60, 5);
        values[3] = f64::NAN;
        values[17] = f64::INFINITY;
        values[18] = f64::NEG_INFINITY;
        values[59] = f64::NAN;
        let values_in = tensor(&values, [12, 5], &device);
        let found = summary(&observer, values_in.clone());
        assert_eq!((found.nan, found.infinite), (2, 2));
        check(&found, &values, &RANKS, 1e-6);

        let found = summary(&observer.clone().with_range(-0.5, 0.5), values_in);
        let finite: Vec<f64> = values.into_iter().filter(|x| x.is_finite()).collect();
        check_histogram(&found.histogram, &finite);
    }
}

#[test]
fn no_finite_value_no_statistics() {
    for device in devices() {
        for values in [[f64::NAN; 6], [f64::INFINITY; 6], [f64::NEG_INFINITY; 6]] {
            let found = summary(&Observer::new(), tensor(&values, [2, 3], &device));
            assert_eq!((found.count, found.nan + found.infinite), (6, 6));
            for number in [found.mean, found.std, found.min, found.max] {
                assert!(number.is_nan());
            }
            assert!(found.percentiles.iter().all(|found| found.value.is_nan()));
            assert!(found.histogram.range[0].is_nan());
            assert_eq!(found.zeros, 0.0);
            assert_eq!(found.histogram.counts, [0; 30]);
        }
    }
}

#[test]
fn an_empty_tensor_has_no_statistics() {
    for device in devices() {
        for shape in [[0, 3], [3, 0]] {
            let found = summary(&Observer::new(), Tensor::<2>::zeros(shape, &device));
            assert_eq!((found.count, found.nan, found.infinite), (0, 0, 0));
            assert!(found.mean.is_nan() && found.std.is_nan() && found.zeros.is_nan());
            assert_eq!(found.percentiles.len(), 3);
            assert_eq!(found.histogram.counts, [0; 30]);
        }
    }
}

#[test]
fn a_constant_and_a_single_value_have_no_spread() {
    for device in devices() {
        for (value, shape) in [(0.1, [4, 5]), (-3.0, [1, 1]), (0.0, [2, 2])] {
            let value = f64::from(value as f32);
            let values = vec![value; shape[0] * shape[1]];
            let found = summary(&Observer::new(), tensor(&values, shape, &device));
            check(&found, &values, &[15.0, 50.0, 85.0], 1e-6);
            assert_eq!(found.std, 0.0);
            assert_eq!(found.histogram.range, [value - 0.5, value + 0.5]);
            assert_eq!(found.histogram.counts[15], values.len());
        }
    }
}

#[test]
fn any_rank_and_any_view_will_do() {
    for device in devices() {
        let values = normal(24, 6);
        let ranks = [15.0, 50.0, 85.0];
        let observer = Observer::new();
        check(
            &summary(&observer, tensor(&values, [24], &device)),
            &values,
            &ranks,
            1e-6,
        );
        let view = tensor(&values, [2, 3, 4], &device).swap_dims(0, 2);
        check(&summary(&observer, view), &values, &ranks, 1e-6);
        let view = tensor(&values, [6, 4], &device).slice([1..5, 0..3]);
        let part = numbers(view.clone());
        check(&summary(&observer, view), &part, &ranks, 1e-6);
    }
}

#[test]
fn half_precision_is_summed_in_full() {
    for device in devices() {
        if !device.supports_dtype(DType::F16) {
            continue;
        }
        // Their sum is 40 times the largest f16.
        let half = tensor(&normal(64 * 64, 7), [64, 64], &device)
            .add_scalar(600.0)
            .cast(DType::F16);
        let values = numbers(half.clone());
        check(
            &summary(&Observer::new(), half),
            &values,
            &[15.0, 50.0, 85.0],
            1e-6,
        );
    }
}

#[test]
fn percentiles_of_many_values_are_those_of_an_even_sample() {
    let ranks = [1.0, 15.0, 50.0, 85.0];
    let observer = Observer::new().with_percentiles(ranks);
    for device in devices() {
        let values = normal(200_000, 8);
        // A ramp along the last axis reveals a sample that misses some of its indices.
        let ramp: Vec<f64> = (0..7 * 32 * 28 * 28).map(|i| f64::from(i % 28)).collect();
        let summaries = [
            (
                summary(&observer, tensor(&values, [2000, 100], &device)),
                values,
            ),
            (
                summary(&observer, tensor(&ramp, [7, 32, 28, 28], &device)),
                ramp,
            ),
        ];
        for (found, values) in summaries {
            for percentile in found.percentiles {
                let share = |of: &dyn Fn(f64) -> bool| {
                    100.0 * values.iter().filter(|&&x| of(x)).count() as f64 / values.len() as f64
                };
                let [below, up_to] = [
                    share(&|x| x < percentile.value),
                    share(&|x| x <= percentile.value),
                ];
                // Four sigma of a random sample of 16,384 at the median.
                assert!(
                    below - 1.6 <= percentile.rank && percentile.rank <= up_to + 1.6,
                    "{percentile:?} has {below}% below and {up_to}% up to it"
                );
            }
        }
    }
}

#[test]
fn percentiles_can_be_left_out() {
    for device in devices() {
        let observer = Observer::new().with_percentiles([]);
        let found = summary(&observer, tensor(&[1.0, 2.0], [2, 1], &device));
        assert!(found.percentiles.is_empty());
        assert_eq!((found.mean, found.histogram.counts[29]), (1.5, 1));
    }
}

#[test]
#[should_panic(expected = "a histogram needs at least one bin, found 0")]
fn a_histogram_without_bins_is_refused() {
    Observer::new().with_bins(0);
}

#[test]
#[should_panic(expected = "a finite range from low to high, found 1 to 1")]
fn a_range_without_width_is_refused() {
    Observer::new().with_range(1.0, 1.0);
}

#[test]
#[should_panic(expected = "a finite range from low to high, found 0 to inf")]
fn a_range_without_end_is_refused() {
    Observer::new().with_range(0.0, f64::INFINITY);
}

#[test]
#[should_panic(expected = "a percentile must be a number from 0 to 100, found 101")]
fn a_percentile_beyond_100_is_refused() {
    Observer::new().with_percentiles([50.0, 101.0]);
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -10.0f32..10.0,
        1 => Just(0.0f32),
        1 => prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ]
    .prop_map(f64::from)
}

proptest! {
    #[test]
    fn any_values_agree_with_f64(values in prop::collection::vec(value(), 1..300), bins in 1usize..20) {
        prop_assume!(values.iter().any(|x| x.is_finite()));
        let observer = Observer::new().with_percentiles(RANKS).with_bins(bins);
        for device in devices() {
            let found = summary(&observer, tensor(&values, [values.len(), 1], &device));
            check(&found, &values, &RANKS, 2e-6);
        }
    }
}

#[test]
fn the_spread_is_over_the_inputs() {
    for device in devices() {
        let (batch, units, after) = (50, 6, 4);
        let mut values = normal(batch * units * after, 11);
        // The units differ by far more than the inputs.
        for (i, value) in values.iter_mut().enumerate() {
            *value = *value * 1e-3 + (i / after % units) as f64;
        }
        values[7] = f64::NAN;
        values[30] = f64::INFINITY;
        let expected: f64 = (0..units * after)
            .map(|place| {
                let column = values.iter().skip(place).step_by(units * after);
                let column: Vec<f64> = column.copied().filter(|x| x.is_finite()).collect();
                let count = column.len() as f64;
                let mean = column.iter().sum::<f64>() / count;
                column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count
            })
            .sum::<f64>()
            / (units * after) as f64;
        let found = summary(
            &Observer::new(),
            tensor(&values, [batch, units, after], &device),
        );
        assert!(
            (found.spread / expected.sqrt() - 1.0).abs() < 0.01,
            "{}",
            found.spread
        );
        assert!(found.std > 1e3 * found.spread);
        assert!(
            (found.rms().powi(2) - found.mean.powi(2) - found.std.powi(2)).abs()
                < 1e-6 * found.rms().powi(2)
        );

        // Of units alone, it is what the std is.
        let values = normal(128, 12);
        let found = summary(&Observer::new(), tensor(&values, [128, 1], &device));
        assert_close(found.spread, found.std, found.std, 1e-6);
        let found = summary(&Observer::new(), tensor(&values, [1, 128], &device));
        assert_eq!(found.spread, 0.0);
    }
}

/// In a sigmoid network the units go on differing from one another, while every input looks more and more alike.
#[test]
fn the_spread_of_a_wide_network_is_what_theory_predicts() {
    use burn::nn::{Linear, LinearConfig};
    use burn_kindling::init::{Activation, InitStrategy, initialize};

    const WIDTH: usize = 500;
    let device = crate::any_device();
    for (activation, strategy) in [
        (Activation::Sigmoid, InitStrategy::Xavier),
        (Activation::Tanh, InitStrategy::Xavier),
    ] {
        let linear = || {
            LinearConfig::new(WIDTH, WIDTH)
                .with_bias(false)
                .init(&device)
        };
        let layers: Vec<Linear> = (0..4).map(|_| linear()).collect();
        let layers = initialize(layers, strategy, 1).0;
        let mut x = tensor(&normal(400 * WIDTH, 13), [400, WIDTH], &device);
        let (_, seen) = Observer::new().run(|| {
            for layer in layers {
                x = watch("layer", activation.forward(layer.forward(x.clone())));
            }
        });
        // Independent inputs of mean square 1.
        let predicted = strategy.propagate_pair(activation, [WIDTH; 4], 1.0, 0.0);
        for (layer, predicted) in seen.report().layers.iter().zip(predicted) {
            let ratio = layer.data.spread / predicted.spread;
            assert!(
                (ratio - 1.0).abs() < 0.15,
                "{activation}: {} for {predicted:?}",
                layer.data.spread
            );
        }
    }
}
