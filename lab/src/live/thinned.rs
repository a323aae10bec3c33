//! A bounded history: the longer it lasts, the wider its steps.

use std::collections::BTreeMap;

/// Items by step, at multiples of an interval that doubles whenever there would be too many.
pub(super) struct Thinned<T> {
    every: usize,
    most: usize,
    items: BTreeMap<usize, T>,
}

impl<T> Thinned<T> {
    /// At most `most` items, at first one in `every` steps. Step 0 is never dropped.
    pub fn new(every: usize, most: usize) -> Self {
        Self {
            every,
            most: most.max(1),
            items: BTreeMap::new(),
        }
    }

    /// Whether an item of this step would be kept.
    pub fn wants(&self, step: usize) -> bool {
        step.is_multiple_of(self.every) && !self.items.contains_key(&step)
    }

    pub fn insert(&mut self, step: usize, item: T) {
        self.items.insert(step, item);
        self.thin();
    }

    /// Allows no more than this many items from now on.
    pub fn limit(&mut self, most: usize) {
        self.most = most.max(1);
        self.thin();
    }

    fn thin(&mut self) {
        while self.items.len() > self.most {
            self.every = self.every.saturating_mul(2);
            let every = self.every;
            self.items.retain(|step, _| step.is_multiple_of(every));
        }
    }

    /// Drops what lies after this step.
    pub fn truncate(&mut self, step: usize) {
        self.items.split_off(&(step + 1));
    }

    /// The newest item at or before this step.
    pub fn at(&self, step: usize) -> Option<(usize, &T)> {
        let (step, item) = self.items.range(..=step).next_back()?;
        Some((*step, item))
    }

    pub fn steps(&self) -> Vec<usize> {
        self.items.keys().copied().collect()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &T)> {
        self.items.iter().map(|(step, item)| (*step, item))
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_keeps_the_start() {
        let mut history = Thinned::new(50, 32);
        for step in 0..100_000 {
            if history.wants(step) {
                history.insert(step, step);
            }
            assert!(history.steps().len() <= 32);
        }
        assert_eq!(history.steps()[0], 0);
        assert!(history.steps().len() >= 16);
        assert_eq!(history.at(49).map(|it| it.0), Some(0));
        history.truncate(10);
        assert_eq!(history.steps(), [0]);
    }
}
