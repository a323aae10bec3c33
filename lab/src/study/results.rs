use super::claim::Claim;
use super::table::Table;
use crate::figure::Figure;

/// The results of an experiment.
#[derive(Clone, Debug)]
pub struct Results {
    /// The figures.
    pub figures: Vec<Figure>,
    /// Sentences from the literature, and whether they hold here.
    pub claims: Vec<Claim>,
    /// The raw numbers.
    pub table: Table,
}
