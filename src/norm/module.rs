//! [`BatchNorm`] as Burn sees it: traversal, devices, clones, display.

use std::fmt;

use burn::module::{
    Content, Devices, DisplaySettings, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor,
};
use burn::tensor::Device;

use super::batch_norm::BatchNorm;
use super::fields::{map_field, visit_field};
use super::statistics::RunningAverage;

/// Written by hand: the running statistics are one field under one lock, but traversals must see the fields
/// `running_mean` and `running_var`.
impl Module for BatchNorm {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visit_field("gamma", &self.gamma, visitor);
        visit_field("beta", &self.beta, visitor);
        visit_field("training", &self.training, visitor);
        if let Some(statistics) = &self.statistics {
            statistics.visit(visitor);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self {
            gamma: map_field("gamma", self.gamma, mapper),
            beta: map_field("beta", self.beta, mapper),
            training: map_field("training", self.training, mapper),
            statistics: self
                .statistics
                .map(|statistics| statistics.map(self.average, mapper)),
            ..self
        }
    }

    fn to_device(self, device: &Device) -> Self {
        Self {
            gamma: self.gamma.to_device(device),
            beta: self.beta.to_device(device),
            statistics: self.statistics.map(|statistics| {
                let device = device
                    .clone()
                    .with_autodiff_context_from(statistics.device());
                statistics.copy_to(device)
            }),
            ..self
        }
    }

    fn fork(self, device: &Device) -> Self {
        Self {
            gamma: self.gamma.fork(device),
            beta: self.beta.fork(device),
            statistics: self.statistics.map(|statistics| statistics.fork(device)),
            ..self
        }
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        let devices = self.gamma.collect_devices(devices);
        let mut devices = self.beta.collect_devices(devices);
        if let Some(statistics) = &self.statistics
            && !devices.contains(statistics.device())
        {
            devices.push(statistics.device().clone());
        }
        devices
    }

    fn materialize(self) -> Self {
        Self {
            gamma: self.gamma.materialize(),
            beta: self.beta.materialize(),
            ..self
        }
    }

    fn valid(&self) -> Self {
        Self {
            gamma: self.gamma.valid(),
            beta: self.beta.valid(),
            training: self.training.valid(),
            statistics: self.statistics.as_ref().map(|statistics| {
                statistics.copy_to(statistics.device().clone().without_autodiff())
            }),
            ..*self
        }
    }

    fn train(self) -> Self {
        Self {
            gamma: self.gamma.train(),
            beta: self.beta.train(),
            training: self.training.train(),
            statistics: self
                .statistics
                .map(|statistics| statistics.copy_to(statistics.device().clone().autodiff())),
            ..self
        }
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
        let content = match self.average {
            RunningAverage::Exponential => content,
            other => content.add_debug_attribute("average", &other),
        };
        let content = match (&self.gamma, &self.beta) {
            (None, None) => content.add("affine", &false),
            (Some(_), None) => content.add("bias", &false),
            _ => content,
        };
        let content = match self.statistics {
            Some(_) => content,
            None => content.add("running_statistics", &false),
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
