use super::claim::Claim;
use super::guess::Guess;
use super::table::Table;
use crate::figure::Figure;

/// The results of an experiment.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The figures.
    pub figures: Vec<Figure>,
    /// Sentences from the literature, and whether they hold here.
    pub claims: Vec<Claim>,
    /// The raw numbers.
    pub table: Table,
    /// Measured numbers that the story names: `{name}` in the story stands for one of them.
    pub facts: Vec<(&'static str, String)>,
    /// What a reader may guess before the figures show it.
    pub guess: Option<Guess>,
}
