//! Several sets of running statistics in one layer.

use std::fmt;
use std::sync::Arc;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};

use super::batch_norm::BatchNorm;
use super::config::BatchNormConfig;
use super::op::Then;
use crate::scope;

/// Configuration of a [`BatchNormSets`].
#[derive(Config, Debug, PartialEq)]
pub struct BatchNormSetsConfig {
    /// The layer that each set belongs to.
    pub norm: BatchNormConfig,
    /// The names of the sets, all different.
    pub sets: Vec<String>,
    /// Whether each set has a gamma and a beta of its own. Default: `false`, all share those of the first
    #[config(default = false)]
    pub separate_affine: bool,
}

impl BatchNormSetsConfig {
    /// Creates a layer whose sets are all like a new [`BatchNorm`].
    ///
    /// # Panics
    ///
    /// Panics if there is no set or two have one name, and as [`BatchNormConfig::init`].
    pub fn init(&self, device: &Device) -> BatchNormSets {
        assert!(
            !self.sets.is_empty(),
            "a batch norm with sets of statistics needs at least one set"
        );
        let twice = self
            .sets
            .iter()
            .enumerate()
            .find(|(at, name)| self.sets[..*at].contains(name));
        if let Some((_, name)) = twice {
            panic!("two sets of a batch norm are called `{name}`; give each a name of its own");
        }
        let shared = self.norm.clone().with_affine(false);
        let config = |at: usize| match at > 0 && !self.separate_affine {
            true => &shared,
            false => &self.norm,
        };
        BatchNormSets {
            sets: (0..self.sets.len())
                .map(|at| config(at).init(device))
                .collect(),
            names: self.sets.clone(),
            separate_affine: self.separate_affine,
        }
    }
}

/// Batch norm with several sets of running statistics, of which a [`StatisticsSet`] chooses one for a forward pass.
///
/// For what one network must treat as different distributions: domains (Li et al. 2017,
/// [arXiv:1603.04779](https://arxiv.org/abs/1603.04779)), clean and adversarial images, with gammas and betas of their
/// own (Xie et al. 2020, [arXiv:1911.09665](https://arxiv.org/abs/1911.09665)), or the time steps of an unrolled
/// network (Cooijmans et al. 2017, [arXiv:1603.09025](https://arxiv.org/abs/1603.09025)).
///
/// ```
/// use burn::module::Module;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNormConfig, BatchNormSetsConfig, StatisticsSet};
///
/// let device = Device::flex().autodiff();
/// let names = ["photo", "sketch"].map(String::from).to_vec();
/// let norm = BatchNormSetsConfig::new(BatchNormConfig::new(3), names).init(&device);
///
/// let sketch = Tensor::<2>::random([16, 3], Distribution::Normal(5.0, 2.0), &device);
/// StatisticsSet::named("sketch").run(|| norm.forward(sketch));
///
/// // One of them alone, such as for folding.
/// let of_photos = norm.valid().select("photo");
/// ```
///
/// # Records
///
/// Each set is a [`BatchNorm`]: `sets.0.running_mean` and so on. If they share gamma and beta, those are the first's.
/// [`freeze`](super::freeze), [`recalibrate`](super::recalibrate) and others treat each set as a layer.
#[derive(Module, Debug)]
pub struct BatchNormSets {
    /// The layer of each set.
    pub sets: Vec<BatchNorm>,
    #[module(skip)]
    names: Vec<String>,
    #[module(skip)]
    separate_affine: bool,
}

impl BatchNormSets {
    /// Applies [`BatchNorm::forward`] with the chosen set: outside of any [`StatisticsSet::run`], the first.
    ///
    /// # Panics
    ///
    /// Panics as [`BatchNorm::forward`], and if the layer has no such set.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.forward_then(input, Then::new())
    }

    /// Applies [`BatchNorm::forward_then`] with the chosen set.
    pub fn forward_then<const D: usize>(&self, input: Tensor<D>, then: Then<D>) -> Tensor<D> {
        self.chosen().forward_then(input, then)
    }

    /// Applies [`BatchNorm::forward_masked`] with the chosen set.
    pub fn forward_masked<const D: usize, const M: usize>(
        &self,
        input: Tensor<D>,
        mask: Tensor<M, Bool>,
    ) -> Tensor<D> {
        self.chosen().forward_masked(input, mask)
    }

    /// The names of the sets, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The layer of one set, with its gamma and beta. It shares their values and the running statistics with this one,
    /// as clones do.
    ///
    /// # Panics
    ///
    /// Panics if the layer has no set of this name.
    pub fn select(&self, name: &str) -> BatchNorm {
        self.get(&StatisticsSet::named(name))
    }

    fn chosen(&self) -> BatchNorm {
        match scope::innermost::<StatisticsSet>() {
            None => self.at(0),
            Some(set) => self.get(&set),
        }
    }

    fn get(&self, set: &StatisticsSet) -> BatchNorm {
        let at = match &set.0 {
            Choice::Name(name) => self.names.iter().position(|it| it == name),
            Choice::Index(index) => Some(*index).filter(|&index| index < self.sets.len()),
        };
        match at {
            Some(at) => self.at(at),
            None => panic!(
                "this batch norm has no set of statistics {set}; it has `{}`",
                self.names.join("`, `")
            ),
        }
    }

    fn at(&self, at: usize) -> BatchNorm {
        let set = self.sets[at].clone();
        match self.separate_affine {
            true => set,
            false => set.with_affine_of(&self.sets[0]),
        }
    }
}

/// Chooses a set of statistics in every [`BatchNormSets`] that a closure calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsSet(Choice);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Name(String),
    Index(usize),
}

impl StatisticsSet {
    /// The set of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(Choice::Name(name.into()))
    }

    /// The set at this place, from 0, such as a time step.
    pub fn at(index: usize) -> Self {
        Self(Choice::Index(index))
    }

    /// Calls `forward` with this set. For threads, see [`Mode::run`](super::Mode::run).
    pub fn run<T: Send>(self, forward: impl FnOnce() -> T + Send) -> T {
        scope::run(Arc::new(self), forward)
    }
}

impl fmt::Display for StatisticsSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Choice::Name(name) => write!(f, "`{name}`"),
            Choice::Index(index) => write!(f, "{index}"),
        }
    }
}
