//! The story of an experiment: a question and paragraphs in Markdown, in English and in Korean.

use super::{Experiment, Findings, Size};

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Korean.
    Korean,
}

impl Language {
    /// All languages. The page is written in the first and translated.
    pub const ALL: [Self; 2] = [Self::English, Self::Korean];
}

/// Lists the files of the experiments, `name.md` in English and `name.ko.md` in Korean.
macro_rules! stories {
    ($experiment:expr, $($name:ident = $file:literal),+ $(,)?) => {
        match $experiment {
            $(Experiment::$name => [
                include_str!(concat!($file, ".md")),
                include_str!(concat!($file, ".ko.md")),
            ],)+
        }
    };
}

impl Experiment {
    fn markdown(self, language: Language) -> &'static str {
        let [english, korean] = stories!(
            self,
            InitDistributions = "init_distributions",
            InitTraining = "init_training",
            InitTrainableDepth = "init_trainable_depth",
            InitOrthogonal = "init_orthogonal",
            InitCalibration = "init_calibration",
            InitZeroGamma = "init_zero_gamma",
            BatchNormBatch = "batch_norm_batch",
            BatchNormTraining = "batch_norm_training",
            BatchNormShift = "batch_norm_shift",
            BatchNormStability = "batch_norm_stability",
            BatchNormDepth = "batch_norm_depth",
            BatchNormTestBatches = "batch_norm_test_batches",
            BatchNormRunningVariance = "batch_norm_running_variance",
            BatchNormRecalibration = "batch_norm_recalibration",
            BatchNormBatchSizes = "batch_norm_batch_sizes",
        );
        match language {
            Language::English => english,
            Language::Korean => korean,
        }
    }

    /// The question that the experiment asks, in English.
    pub fn question(self) -> &'static str {
        self.question_in(Language::English)
    }

    /// The question that the experiment asks.
    pub fn question_in(self, language: Language) -> &'static str {
        let heading = self.markdown(language).lines().next();
        heading.unwrap_or_default().trim_start_matches("# ")
    }

    /// What the experiment does and what the figures show, in Markdown. `{name}` stands for a measured number. A
    /// paragraph that begins with `{full}` or `{quick}` is about that size only.
    pub fn story_in(self, language: Language) -> &'static str {
        let markdown = self.markdown(language);
        let markdown = markdown
            .split_once("\n---\n")
            .map_or(markdown, |parts| parts.0);
        markdown.split_once('\n').map_or("", |(_, story)| story)
    }

    /// The short texts of the experiment in English and Korean: pairs of lines, between empty lines. `{name}` stands
    /// for any number or other text of the table.
    pub(crate) fn words(self) -> &'static str {
        let parts = self.markdown(Language::Korean).split_once("\n---\n");
        parts.map_or("", |(_, words)| words)
    }
}

impl Findings {
    /// The story with what was measured, in Markdown.
    pub fn story(&self, language: Language) -> String {
        let paragraphs = self.experiment.story_in(language).split("\n\n");
        let (mark, other) = match self.size {
            Size::Full => ("{full}", "{quick}"),
            Size::Quick => ("{quick}", "{full}"),
        };
        let told = paragraphs
            .map(str::trim)
            .filter(|it| !it.starts_with(other));
        let told: Vec<_> = told
            .map(|it| it.trim_start_matches(mark).trim_start())
            .collect();
        let facts = self.results.facts.iter();
        facts.fold(told.join("\n\n"), |story, (name, fact)| {
            story.replace(&format!("{{{name}}}"), fact)
        })
    }
}
