//! Follows the traversal of a module.

use burn::module::Param;
use burn::tensor::Tensor;

use super::layer::{Fields, Layer, Role};

/// Where a traversal is in a model.
#[derive(Default)]
pub(super) struct Place {
    path: Vec<String>,
    containers: Vec<String>,
}

impl Place {
    pub fn enter(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container_type.to_owned());
    }

    pub fn exit(&mut self) {
        self.path.pop();
        self.containers.pop();
    }

    pub fn path(&self) -> String {
        self.path.join(".")
    }

    /// The layer of the parameter here, and the parameter's role in it. `text` is the `Debug` text of the model.
    pub fn layer<const D: usize>(&self, param: &Param<Tensor<D>>, text: &str) -> (Layer, Role) {
        let container = self.containers.last().map_or("", String::as_str);
        let container = container.strip_prefix("Struct:").unwrap_or_default();
        let field = self.path.last().map_or("", String::as_str);
        let fields = Fields::find(text, container, &param.id.to_string());
        Layer::recognize(container, field, D, fields.as_ref())
    }
}
