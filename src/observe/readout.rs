//! Data read off a device in one transaction.

use std::vec::IntoIter;

use burn::tensor::{TensorData, Transaction};

/// The tensors of a [`Transaction`], in the order in which they were registered.
pub(super) struct Readout(IntoIter<TensorData>);

impl Readout {
    /// Runs the transaction, which waits for the device.
    pub(super) fn of(transaction: Transaction) -> Self {
        Self(transaction.execute().into_iter())
    }

    /// The next tensor, as numbers.
    pub(super) fn numbers(&mut self) -> Vec<f64> {
        self.next().iter().collect()
    }

    /// The next tensor, as counts.
    pub(super) fn counts(&mut self) -> Vec<usize> {
        let count = |number| usize::try_from(number).expect("a count is not negative");
        self.next().iter::<i64>().map(count).collect()
    }

    fn next(&mut self) -> TensorData {
        self.0.next().expect("every tensor read was registered")
    }
}
