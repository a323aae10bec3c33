/// A question that a reader answers before the figures do: which choice has the largest number, or the smallest.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// The question.
    pub question: String,
    /// What is measured, and its unit.
    pub quantity: String,
    /// The choices, with the number measured for each; infinite if it was never reached.
    pub choices: Vec<(String, f64)>,
    most: bool,
}

impl Guess {
    /// Asks which choice has the largest number.
    pub fn most(
        question: impl Into<String>,
        quantity: impl Into<String>,
        choices: impl IntoIterator<Item = (String, f64)>,
    ) -> Self {
        Self {
            question: question.into(),
            quantity: quantity.into(),
            choices: choices.into_iter().collect(),
            most: true,
        }
    }

    /// Asks which choice has the smallest number.
    pub fn least(
        question: impl Into<String>,
        quantity: impl Into<String>,
        choices: impl IntoIterator<Item = (String, f64)>,
    ) -> Self {
        Self {
            most: false,
            ..Self::most(question, quantity, choices)
        }
    }

    /// The place of the right choice; the first one if several have its number. `None` if no choice has a finite
    /// number.
    pub fn answer(&self) -> Option<usize> {
        let better = |a: f64, b: f64| if self.most { a > b } else { a < b };
        let numbers = self.choices.iter().map(|choice| choice.1).enumerate();
        let finite = numbers.filter(|(_, number)| number.is_finite());
        let best = finite.reduce(|best, it| if better(it.1, best.1) { it } else { best });
        best.map(|(place, _)| place)
    }
}
