//! Folds the batch norms of a whole model.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::search::{Affine, Search, Seen};
use crate::init::weights::{self, ByUnit};
use crate::norm::freeze::freeze_layers;
use crate::norm::mode::Mode;
use crate::norm::probe::Probe;
use crate::norm::recalibrate::Replacements;
use crate::norms::norms_of;

/// Folds the batch norms of a whole model into the layers before them, each as [`Fold`](super::Fold) does. Returns the
/// model, of the same type and with the same parameters, and a table of what was folded.
///
/// The scale of a norm goes into the weight of the layer before it, and the shift into its bias. The norm stays in its
/// field, frozen, with a scale of 1. After a layer with a bias it changes nothing, and on a CPU costs nothing. A layer
/// without a bias cannot get one here: the norm then adds the shift, which costs what a bias would.
///
/// Fold last: a folded norm no longer normalises, so do not train or recalibrate the model afterwards.
///
/// - `sample` is a batch on which `forward` calls all norms that are to be folded. Two rows of random numbers are
///   enough. The inputs of all norms are in memory at the same time.
/// - `forward` calls the model on the batch, and returns everything that the model computes; concatenate several
///   outputs. It gets the [validation](Module::valid) model, so dropout is off. It must call the norms on its own
///   thread. On a rayon worker that is a new thread, as in [`Mode::run`].
///
/// # How the layer before a norm is found
///
/// By the data. A forward pass multiplies the outputs of every affine layer (linear, convolution, transposed
/// convolution, embedding) by negative factors of its own. If exactly these factors arrive at a norm, only this layer
/// is before it: an activation or a max pooling between the two would change them. A second pass does the same to the
/// layers that were found. If the output of the model changes, or the input of another norm, then something else uses
/// the output of a layer too, and its norm is not folded.
///
/// This takes three forward passes. Layers that these cannot tell apart take one more each.
///
/// A norm is also not folded if the sample shows it nothing but zeros, if it is called twice, if it keeps no running
/// statistics, if its epsilon is 1 or more, or if it is Burn's. The table has these norms too.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn::tensor::{Device, Distribution, Tensor, activation::relu};
/// use burn_kindling::norm::{BatchNorm, BatchNormConfig, fold};
///
/// #[derive(Module, Debug)]
/// struct Block {
///     conv: Conv2d,
///     norm: BatchNorm,
/// }
///
/// impl Block {
///     fn forward(&self, x: Tensor<4>) -> Tensor<4> {
///         relu(self.norm.forward(self.conv.forward(x)))
///     }
/// }
///
/// let device = Device::flex();
/// let block = Block {
///     conv: Conv2dConfig::new([3, 8], [3, 3]).init(&device),
///     norm: BatchNormConfig::new(8).init(&device),
/// };
/// let images = Tensor::random([2, 3, 9, 9], Distribution::Default, &device);
///
/// let (folded, table) = fold(&block, images.clone(), Block::forward);
/// assert_eq!(table.to_string(), "norm  into conv");
/// assert!(folded.forward(images.clone()).all_close(block.forward(images), None, Some(1e-5)));
/// ```
pub fn fold<M, B, const D: usize>(
    model: &M,
    sample: B,
    forward: impl Fn(&M, B) -> Tensor<D> + Sync,
) -> (M, FoldTable)
where
    M: Module + Sync,
    B: Clone + Send,
{
    let evaluated = model.valid();
    let layers = layers(&evaluated);
    let probe = Arc::new(Probe::default());
    let pass = |marked: &[usize]| {
        let marks = marked.iter().map(|&it| (it, layers[it].marks(it)));
        let marked = scaled(evaluated.clone(), &layers, marks);
        let batch = sample.clone();
        let (output, inputs) = probe.pass(|| Mode::Inference.run(|| forward(&marked, batch)))?;
        let output = output.into_data().iter::<f32>().collect();
        Some(Seen { output, inputs })
    };
    let first = pass(&[]);
    let norms = probe.met();
    let pairs = first.map_or_else(Vec::new, |first| {
        let search = Search {
            layers: &layers,
            norms: &norms,
            first: &first,
        };
        search.pairs(pass)
    });

    let mut of_layers = Vec::new();
    let mut of_norms = Replacements::default();
    let mut frozen = HashSet::new();
    let mut into = HashMap::new();
    for (norm, layer) in pairs {
        let (norm, layer_index, layer) = (&norms[norm], layer, &layers[layer]);
        let [scale, mean, beta] = &norm.terms;
        let (channels, ones) = (0..scale.len(), vec![1.0; scale.len()]);
        let shift = |it: usize| beta[it] - scale[it] * mean[it];
        let by_unit = channels.clone().map(|it| [scale[it], shift(it)]);
        of_layers.push((layer_index, by_unit.collect()));
        let left = channels.map(|it| if layer.has_bias { 0.0 } else { -shift(it) });
        let variance = vec![1.0 - norm.epsilon; ones.len()];
        let [gamma, beta] = norm.affine;
        let [running_mean, running_var, _] = norm.statistics;
        of_norms.0.insert(gamma, ones.clone());
        of_norms.0.insert(beta, vec![0.0; ones.len()]);
        of_norms
            .0
            .extend(running_mean.map(|id| (id, left.collect())));
        of_norms.0.extend(running_var.map(|id| (id, variance)));
        frozen.extend([gamma, beta, norm.flag]);
        into.insert(norm.flag, layer.path.clone());
    }
    let folded = scaled(model.clone(), &layers, of_layers).map(&mut of_norms);
    let rows = norms_of(model).into_iter().map(|norm| FoldRow {
        into: into.remove(&norm.flag),
        norm: norm.path,
    });
    let table = FoldTable {
        rows: rows.collect(),
    };
    (freeze_layers(folded, frozen), table)
}

/// What [`fold`](fold()) did to each batch norm, in the order of the module's fields.
///
/// Displayed as a text table without a final line break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldTable {
    /// One row per batch norm.
    pub rows: Vec<FoldRow>,
}

/// What was done to one batch norm: a row of a [`FoldTable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldRow {
    /// The names of the fields that lead to the norm, joined by dots, such as `layer1.blocks.0.bn1`.
    pub norm: String,
    /// The same of the layer that the norm was folded into. `None` if it was not folded, and works as before.
    pub into: Option<String>,
}

impl FoldTable {
    /// The rows of the norms that were not folded.
    pub fn kept(&self) -> impl Iterator<Item = &FoldRow> {
        self.rows.iter().filter(|row| row.into.is_none())
    }
}

impl fmt::Display for FoldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |row: &FoldRow| row.norm.chars().count();
        let width = self.rows.iter().map(width).max().unwrap_or(0);
        for (number, FoldRow { norm, into }) in self.rows.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            match into {
                Some(layer) => write!(f, "{norm:width$}  into {layer}")?,
                None => write!(f, "{norm:width$}  kept")?,
            }
        }
        Ok(())
    }
}

/// The model with the outputs of some layers scaled and shifted.
fn scaled<M: Module>(
    model: M,
    layers: &[Affine],
    by_layer: impl IntoIterator<Item = (usize, ByUnit)>,
) -> M {
    let parameters = by_layer.into_iter().flat_map(|(layer, by_unit)| {
        let path = |name| field(&layers[layer].path, name);
        [(path("weight"), by_unit.clone()), (path("bias"), by_unit)]
    });
    let by_path: HashMap<String, ByUnit> = parameters.collect();
    match by_path.is_empty() {
        true => model,
        false => weights::scale(model, |path| by_path.get(path).cloned()),
    }
}

/// The affine layers of a model, in the order of its fields.
fn layers<M: Module>(model: &M) -> Vec<Affine> {
    let parameters = weights::parameters(model);
    let biases: HashSet<&str> = (parameters.iter())
        .filter(|it| it.is_bias)
        .map(|it| &*it.path)
        .collect();
    let layer = |weight: &weights::Found| {
        let path = weight.path.strip_suffix("weight")?.trim_end_matches('.');
        (weight.is_weight && weight.units > 0).then(|| Affine {
            path: path.to_owned(),
            units: weight.units,
            has_bias: biases.contains(&*field(path, "bias")),
        })
    };
    parameters.iter().filter_map(layer).collect()
}

/// The path of a field of the struct at `path`.
fn field(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}
