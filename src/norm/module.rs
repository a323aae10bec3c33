//! [`BatchNorm`] as Burn sees it: traversal, devices, clones, display.

use std::fmt;

use burn::module::{
    Content, Devices, DisplaySettings, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor,
};
use burn::tensor::Device;

use super::average::RunningAverage;
use super::batch_norm::BatchNorm;
use super::fields::{map_field, visit_field};

/// Written by hand: the running statistics are fields under one lock, and a layer without gamma, beta or running
/// statistics hides the fields from traversals.
impl Module for BatchNorm {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        if self.affine {
            visit_field("gamma", &self.gamma, visitor);
        }
        if self.has_beta() {
            visit_field("beta", &self.beta, visitor);
        }
        visit_field("training", &self.training, visitor);
        if let Some(statistics) = self.statistics() {
            statistics.visit(&self.device(), visitor);
        }
    }

    fn map<M: ModuleMapper>(mut self, mapper: &mut M) -> Self {
        let device = self.device();
        if self.affine {
            self.gamma = map_field("gamma", self.gamma, mapper);
        }
        if self.has_beta() {
            self.beta = map_field("beta", self.beta, mapper);
        }
        self.training = map_field("training", self.training, mapper);
        let average = self.average;
        let mapped = self
            .statistics()
            .map(|statistics| statistics.map(&device, average, mapper));
        match mapped {
            Some(statistics) => self.with_own(statistics),
            None => self,
        }
    }

    fn to_device(self, device: &Device) -> Self {
        let statistics = self.values();
        let context = device.clone().with_autodiff_context_from(&self.device());
        let statistics = statistics.copy_to(&context);
        Self {
            gamma: self.gamma.to_device(device),
            beta: self.beta.to_device(device),
            ..self
        }
        .with_own(statistics)
    }

    /// Shares the running statistics, which stay on their device.
    fn fork(self, device: &Device) -> Self {
        Self {
            gamma: self.gamma.fork(device),
            beta: self.beta.fork(device),
            ..self
        }
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        let devices = self.gamma.collect_devices(devices);
        self.beta.collect_devices(devices)
    }

    fn materialize(self) -> Self {
        Self {
            gamma: self.gamma.materialize(),
            beta: self.beta.materialize(),
            ..self
        }
    }

    fn valid(&self) -> Self {
        let device = self.device().without_autodiff();
        Self {
            gamma: self.gamma.valid(),
            beta: self.beta.valid(),
            training: self.training.valid(),
            ..self.clone()
        }
        .with_own(self.values().copy_to(&device))
    }

    fn train(self) -> Self {
        let statistics = self.values().copy_to(&self.device().autodiff());
        Self {
            gamma: self.gamma.train(),
            beta: self.beta.train(),
            training: self.training.train(),
            ..self
        }
        .with_own(statistics)
    }
}

impl ModuleDisplayDefault for BatchNorm {
    fn content(&self, content: Content) -> Option<Content> {
        let content = content
            .set_top_level_type("BatchNorm")
            .add("num_features", &self.num_features)
            .add("momentum", &self.momentum)
            .add("epsilon", &self.epsilon);
        // Options that Burn's layer has are shown as it shows them; the others only if they differ from the default.
        let content = match self.channel_axis {
            1 => content,
            other => content.add("channel_axis", &other),
        };
        let content = match self.average {
            RunningAverage::Exponential => content,
            other => content.add_debug_attribute("average", &other),
        };
        let content = match (self.affine, self.has_beta()) {
            (false, _) => content.add("affine", &false),
            (true, false) => content.add("bias", &false),
            (true, true) => content,
        };
        let content = match self.statistics() {
            Some(_) => content,
            None => content.add("running_statistics", &false),
        };
        let content = match self.unbiased_variance {
            true => content,
            false => content.add("unbiased_variance", &false),
        };
        match self.training.is_enabled() {
            true => content.optional(),
            false => content.add("training", &self.training).optional(),
        }
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for BatchNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }
}

impl fmt::Display for BatchNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(DisplaySettings::default()))
    }
}
