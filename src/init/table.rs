//! The table of what was done to each parameter.

use std::fmt;

use super::fan::Fan;
use super::layer::LayerKind;
use super::scheme::Scheme;

/// What [`initialize`](super::initialize) did to each parameter, in the order of the module's fields.
///
/// Displayed as a text table without a final line break.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InitTable {
    /// One row per float parameter.
    pub rows: Vec<InitRow>,
}

/// What was done to one parameter: a row of an [`InitTable`].
#[derive(Clone, Debug, PartialEq)]
pub struct InitRow {
    /// The names of the fields that lead to the parameter, joined by dots, such as `hidden.0.weight`.
    /// [`ParamGroup`](burn::module::ParamGroup) matches these paths.
    pub path: String,
    /// The kind of the layer that the parameter belongs to.
    pub layer: LayerKind,
    /// The shape of the parameter in memory, such as `[d_input, d_output]` for a linear layer.
    pub shape: Vec<usize>,
    /// What was done.
    pub action: InitAction,
    /// Whether the groups or strides of the layer were not found, so that 1 was assumed. This happens only to
    /// convolutions inside a module with its own `Debug` implementation.
    pub assumed: bool,
}

/// What was done to a parameter. If it was kept, why.
#[derive(Clone, Debug, PartialEq)]
pub enum InitAction {
    /// The values were drawn from a scheme.
    Drawn {
        /// The scheme of the values.
        scheme: Scheme,
        /// The fan of the layer. `None` if it cannot be counted.
        fan: Option<Fan>,
        /// The standard deviation of the distribution, as [`Scheme::std`] gives it.
        std: f64,
    },
    /// Every value was set to this number.
    Filled(f64),
    /// The same tensor as the one at this path, which stands earlier in the table. It has the same values.
    Tied(String),
    /// The values stay as they were.
    Kept(Kept),
}

/// Why a parameter stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// It is a gamma, a beta or a running statistic of a normalisation.
    Norm,
    /// It is frozen: it requires no gradient.
    Frozen,
    /// The plan says so: [`InitPlan::keep`](super::InitPlan::keep).
    Plan,
    /// It is quantised.
    Quantized,
    /// It has no values.
    Empty,
    /// Its layer is unknown. Give the plan a rule for it.
    Unknown,
}

impl InitTable {
    /// The row of the parameter at this path, if there is one.
    pub fn row(&self, path: &str) -> Option<&InitRow> {
        self.rows.iter().find(|row| row.path == path)
    }

    /// The rows of the parameters that were kept because their layer is unknown. Give the plan a rule for each.
    pub fn unknown(&self) -> impl Iterator<Item = &InitRow> {
        (self.rows.iter()).filter(|row| row.action == InitAction::Kept(Kept::Unknown))
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Norm => "kept: normalisation",
            Self::Frozen => "kept: frozen",
            Self::Plan => "kept by the plan",
            Self::Quantized => "kept: quantised",
            Self::Empty => "kept: no values",
            Self::Unknown => "kept: unknown layer",
        })
    }
}

impl fmt::Display for InitTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "parameter",
            "layer",
            "shape",
            "fan-in",
            "fan-out",
            "std",
            "values",
        ];
        let mut lines = vec![header.map(str::to_owned)];
        lines.extend(self.rows.iter().map(InitRow::columns));
        let widths: [usize; 7] = std::array::from_fn(|column| {
            let width = |line: &[String; 7]| line[column].chars().count();
            lines.iter().map(width).max().unwrap_or(0)
        });
        for (number, [path, layer, shape, fan_in, fan_out, std, values]) in lines.iter().enumerate()
        {
            let [w0, w1, w2, w3, w4, w5, _] = widths;
            if number > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "{path:w0$}  {layer:w1$}  {shape:w2$}  {fan_in:>w3$}  {fan_out:>w4$}  {std:>w5$}  {values}"
            )?;
        }
        Ok(())
    }
}

impl InitRow {
    /// The columns of this row in the table.
    fn columns(&self) -> [String; 7] {
        let fan = |count: fn(&Fan) -> usize| match &self.action {
            InitAction::Drawn { fan: Some(fan), .. } => count(fan).to_string(),
            _ => String::new(),
        };
        let (std, values) = match &self.action {
            InitAction::Drawn { scheme, std, .. } => (format!("{std:.3e}"), scheme.to_string()),
            InitAction::Filled(value) => (String::new(), format!("constant {value}")),
            InitAction::Tied(path) => (String::new(), format!("the same as {path}")),
            InitAction::Kept(why) => (String::new(), why.to_string()),
        };
        let note = if self.assumed {
            " (stride and groups of 1 assumed)"
        } else {
            ""
        };
        [
            self.path.clone(),
            self.layer.to_string(),
            format!("{:?}", self.shape),
            fan(|fan| fan.fan_in),
            fan(|fan| fan.fan_out),
            std,
            values + note,
        ]
    }
}
