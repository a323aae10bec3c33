//! Saturated values, dead units and copies.

use burn::tensor::{Device, Tensor};
use burn_kindling::init::Activation;
use burn_kindling::observe::{Layer, Observer, Point};
use proptest::prelude::*;

use crate::{any_device, devices, normal, tensor};

fn layer<const D: usize>(activation: Option<Activation>, tensor: Tensor<D>) -> Layer {
    layer_along(1, activation, tensor)
}

fn layer_along<const D: usize>(
    axis: usize,
    activation: Option<Activation>,
    tensor: Tensor<D>,
) -> Layer {
    let mut point = Point::new("point").units_along(axis);
    if let Some(activation) = activation {
        point = point.after(activation);
    }
    let (_, seen) = Observer::new().run(|| point.watch(tensor));
    seen.report().layers.remove(0)
}

#[test]
fn saturation_is_near_the_ends_of_each_activation() {
    let values = [-0.98, -0.96, -0.01, 0.0, 0.02, 0.04, 0.96, 0.98];
    let expected = [
        (Some(Activation::Tanh), Some(2.0 / 8.0)),
        (Some(Activation::Sigmoid), Some(6.0 / 8.0)),
        (Some(Activation::Relu), Some(1.0 / 8.0)),
        (Some(Activation::LeakyRelu), None),
        (Some(Activation::Gelu), None),
        (Some(Activation::Selu), None),
        (Some(Activation::Silu), None),
        (None, None),
    ];
    for device in devices() {
        for (activation, saturated) in expected {
            let found = layer(activation, tensor(&values, [8, 1], &device));
            assert_eq!(found.activation, activation);
            assert_eq!(found.saturated, saturated, "{activation:?}");
        }
    }
}

#[test]
fn a_unit_is_dead_if_it_is_never_active() {
    // By unit: never 0, sometimes 0, always 0, at one end, at both ends.
    let rows = [[0.5, 0.0, 0.0, 1.0, 1.0], [0.4, 0.3, 0.0, 0.99, -1.0]].concat();
    let expected = [
        (Some(Activation::Relu), 1),
        (Some(Activation::LeakyRelu), 1),
        (Some(Activation::Tanh), 2),
        // 0 and below counts as saturated after sigmoid.
        (Some(Activation::Sigmoid), 3),
        (None, 1),
    ];
    for device in devices() {
        for (activation, dead) in expected {
            let found = layer(activation, tensor(&rows, [2, 5], &device));
            assert_eq!((found.units, found.dead), (5, dead), "{activation:?}");
        }
        // A channel is dead if it is 0 at every pixel of every image.
        let mut images = vec![0.0; 2 * 3 * 4];
        images[4 + 2] = 1.0;
        let found = layer(
            Some(Activation::Relu),
            tensor(&images, [2, 3, 2, 2], &device),
        );
        assert_eq!((found.units, found.dead), (3, 2));
        // Not a number is not zero.
        let found = layer(
            Some(Activation::Relu),
            tensor(&[f64::NAN, 0.0], [1, 2], &device),
        );
        assert_eq!(found.dead, 1);
    }
}

/// A layer of `pattern.len()` units. Units with the same number in the pattern are copies.
fn copies(pattern: &[usize], rows: usize, after: usize, device: &Device) -> Tensor<3> {
    let units = pattern.len();
    let distinct = normal(rows * units * after, 9);
    let mut values = Vec::new();
    for row in 0..rows {
        for &unit in pattern {
            for place in 0..after {
                values.push(distinct[(row * units + unit) * after + place]);
            }
        }
    }
    tensor(&values, [rows, units, after], device)
}

#[test]
fn copies_are_counted_once_less_than_there_are() {
    for device in devices() {
        let duplicates =
            |pattern: &[usize]| layer(None, copies(pattern, 16, 3, &device)).duplicates;
        assert_eq!(duplicates(&[0, 1, 2, 3]), 0);
        assert_eq!(duplicates(&[0, 1, 0, 3]), 1);
        assert_eq!(duplicates(&[1, 0, 1, 0, 1]), 3);
        assert_eq!(duplicates(&[0; 100]), 99);
        assert_eq!(duplicates(&[0]), 0);
        // Zeros are copies of one another.
        let zeros = Tensor::<2>::zeros([8, 5], &device);
        assert_eq!(layer(Some(Activation::Relu), zeros).duplicates, 4);
    }
}

#[test]
fn rounding_does_not_tell_copies_apart_but_a_difference_does() {
    for device in devices() {
        let values = normal(64, 10);
        let pairs = |difference: f64| -> Vec<f64> {
            values
                .iter()
                .flat_map(|x| [*x, *x * (1.0 + difference)])
                .collect()
        };
        let duplicates =
            |difference| layer(None, tensor(&pairs(difference), [64, 2], &device)).duplicates;
        assert_eq!(duplicates(2e-7), 1);
        assert_eq!(duplicates(1e-3), 0);
        // A difference in a single value.
        let mut once = pairs(0.0);
        once[41] += 1e-3;
        assert_eq!(layer(None, tensor(&once, [64, 2], &device)).duplicates, 0);
    }
}

#[test]
fn any_axis_may_count_the_units() {
    for device in devices() {
        // [batch, sequence, features], the last feature dead.
        let values = copies(&[0, 1, 2], 4, 5, &device).swap_dims(1, 2);
        let found = layer_along(2, None, values.clone());
        assert_eq!((found.shape, found.units), (vec![4, 5, 3], 3));
        assert_eq!(layer(None, values.clone()).units, 5);
        let dead = Tensor::cat(vec![values, Tensor::zeros([4, 5, 1], &device)], 2);
        assert_eq!(layer_along(2, Some(Activation::Relu), dead).dead, 1);
        // A single axis is the batch axis.
        let found = layer(None, Tensor::<1>::ones([6], &device));
        assert_eq!((found.units, found.duplicates, found.dead), (1, 0, 0));
        // Nothing to count.
        let empty = layer(Some(Activation::Tanh), Tensor::<2>::zeros([0, 3], &device));
        assert_eq!((empty.units, empty.duplicates, empty.dead), (3, 0, 0));
    }
}

#[test]
#[should_panic(
    expected = "the point `attention.0` has its units along axis 3, but the tensor there has 2 axes"
)]
fn a_missing_axis_is_named() {
    let x = Tensor::<2>::ones([2, 2], &any_device());
    let point = Point::new("attention.0").units_along(3);
    Observer::new().run(|| point.watch(x));
}

proptest! {
    #[test]
    fn any_pattern_of_copies_is_counted(
        pattern in prop::collection::vec(0usize..12, 12..13),
        rows in 1usize..9,
        after in 1usize..4,
    ) {
        let mut distinct = pattern.clone();
        distinct.sort();
        distinct.dedup();
        for device in devices() {
            let found = layer(None, copies(&pattern, rows, after, &device));
            prop_assert_eq!(found.duplicates, pattern.len() - distinct.len());
        }
    }
}
