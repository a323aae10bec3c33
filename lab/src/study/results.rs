use super::claim::Claim;
use super::table::Table;
use crate::figure::Figure;

/// What an experiment found.
#[derive(Clone, Debug)]
pub struct Results {
    /// The pictures.
    pub figures: Vec<Figure>,
    /// Sentences from the literature, and whether they hold here.
    pub claims: Vec<Claim>,
    /// The raw numbers.
    pub table: Table,
}
