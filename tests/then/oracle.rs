//! Batch normalisation and what follows it, in plain f64 loops that are independent of any tensor library.

#[path = "../batch_norm/oracle.rs"]
mod equations;

use equations::{Layout, Pass, moments, pass};

pub const EPSILON: f64 = 1e-5;

/// A pooling of a window. Each pair is height, then width.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub max: bool,
    pub count_padding: bool,
    pub size: [usize; 2],
    pub strides: [usize; 2],
    pub padding: [usize; 2],
}

#[derive(Clone, Copy, Debug)]
pub enum Activation {
    None,
    /// With this slope at and below 0.
    Relu(f64),
    Sigmoid,
    Tanh,
    Silu,
}

/// An operation on `[batch, channels, height, width]`.
#[derive(Clone, Debug)]
pub struct Problem {
    pub shape: [usize; 4],
    pub input: Vec<f64>,
    pub gamma: Vec<f64>,
    pub beta: Vec<f64>,
    /// The mean and the variance that normalise; `None` for those of the batch.
    pub given: Option<[Vec<f64>; 2]>,
    pub residual: Option<Vec<f64>>,
    pub activation: Activation,
    pub window: Option<Window>,
}

/// The output, and the gradients of `sum(output * weights)`.
#[derive(Debug)]
pub struct Answer {
    pub output: Vec<f64>,
    pub input: Vec<f64>,
    pub gamma: Vec<f64>,
    pub beta: Vec<f64>,
    /// Also the gradient of the activation's input if there is no residual.
    pub residual: Vec<f64>,
}

impl Problem {
    pub fn output_shape(&self) -> [usize; 4] {
        let [batch, channels, height, width] = self.shape;
        let [height, width] = match &self.window {
            None => [height, width],
            Some(window) => [0, 1].map(|axis| {
                let padded = [height, width][axis] + 2 * window.padding[axis];
                (padded - window.size[axis]) / window.strides[axis] + 1
            }),
        };
        [batch, channels, height, width]
    }

    fn normalised(&self, gradient: &[f64]) -> Pass {
        let layout = Layout::of(&self.shape);
        let (mean, variance) = match &self.given {
            Some([mean, variance]) => (mean.clone(), variance.clone()),
            None => {
                let (mean, variance, _) = moments(&self.input, &layout);
                (mean, variance)
            }
        };
        pass(
            &self.input,
            gradient,
            &layout,
            (&mean, &variance),
            (&self.gamma, &self.beta),
            EPSILON,
            self.given.is_none(),
        )
    }

    /// Calls `visit` with each place of the output, and the places of the activation in its window, row by row.
    fn windows(&self, mut visit: impl FnMut(usize, &[usize])) {
        let [_, _, height, width] = self.shape;
        let [batch, channels, rows, columns] = self.output_shape();
        let Some(window) = &self.window else {
            (0..self.input.len()).for_each(|place| visit(place, &[place]));
            return;
        };
        let mut at = 0;
        for image in 0..batch * channels {
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |it| (row, it))) {
                let mut places = Vec::new();
                for y in 0..window.size[0] {
                    for x in 0..window.size[1] {
                        let y = (row * window.strides[0] + y).wrapping_sub(window.padding[0]);
                        let x = (column * window.strides[1] + x).wrapping_sub(window.padding[1]);
                        if y < height && x < width {
                            places.push((image * height + y) * width + x);
                        }
                    }
                }
                visit(at, &places);
                at += 1;
            }
        }
    }

    fn divisor(&self, window: &Window, values: usize) -> f64 {
        match window.count_padding {
            true => (window.size[0] * window.size[1]) as f64,
            false => values as f64,
        }
    }

    pub fn solve(&self, weights: &[f64]) -> Answer {
        self.solve_by(weights, |_, z| z <= 0.0)
    }

    /// The same, with the activation's slope at and below 0 where an output found without pooling is not above 0. Near
    /// 0, rounding decides.
    pub fn solve_like(&self, weights: &[f64], output: &[f64]) -> Answer {
        self.solve_by(weights, |place, _| output[place] <= 0.0)
    }

    /// `is_below` is given a place and the value there.
    fn solve_by(&self, weights: &[f64], is_below: impl Fn(usize, f64) -> bool) -> Answer {
        let none = vec![0.0; self.input.len()];
        let y = self.normalised(&none).output;
        let z: Vec<f64> = match &self.residual {
            Some(residual) => y.iter().zip(residual).map(|(y, r)| y + r).collect(),
            None => y,
        };
        // The value of the activation, and its slope.
        let activated = z.iter().enumerate().map(|(place, &z)| {
            let s = 1.0 / (1.0 + (-z).exp());
            match self.activation {
                Activation::Relu(slope) if is_below(place, z) => (slope * z, slope),
                Activation::None | Activation::Relu(_) => (z, 1.0),
                Activation::Sigmoid => (s, s * (1.0 - s)),
                Activation::Tanh => (z.tanh(), 1.0 - z.tanh().powi(2)),
                Activation::Silu => (z * s, s + z * s * (1.0 - s)),
            }
        });
        let (active, slopes): (Vec<f64>, Vec<f64>) = activated.unzip();

        let mut output = vec![0.0; self.output_shape().iter().product()];
        let mut gradient = none;
        self.windows(|at, places| match &self.window {
            Some(window) if !window.max => {
                let divisor = self.divisor(window, places.len());
                output[at] = places.iter().map(|&place| active[place]).sum::<f64>() / divisor;
                places
                    .iter()
                    .for_each(|&place| gradient[place] += weights[at] / divisor);
            }
            _ => {
                let mut first = places[0];
                for &place in places {
                    if active[place] > active[first] {
                        first = place;
                    }
                }
                output[at] = active[first];
                gradient[first] += weights[at];
            }
        });
        for (gradient, slope) in gradient.iter_mut().zip(&slopes) {
            *gradient *= slope;
        }
        let gradients = self.normalised(&gradient);
        Answer {
            output,
            input: gradients.input_grad,
            gamma: gradients.gamma_grad,
            beta: gradients.beta_grad,
            residual: gradient,
        }
    }
}
