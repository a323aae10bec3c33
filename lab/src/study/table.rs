use serde::Serialize;
use serde_json::{Map, Value};

/// The raw numbers of an experiment in long form: one observation per row.
///
/// The first columns say what was observed, the last two are `quantity` and `value`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// An empty table with these columns before `quantity` and `value`.
    pub fn new(keys: &[&'static str]) -> Self {
        Self {
            columns: [keys, &["quantity", "value"]].concat(),
            rows: Vec::new(),
        }
    }

    /// Adds a row for each value. A value that is not finite becomes an empty cell.
    ///
    /// # Panics
    ///
    /// If `keys` is not a tuple or array with one cell for each key column.
    pub fn add<'a>(
        &mut self,
        keys: impl Serialize,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) {
        let keys = match serde_json::to_value(keys) {
            Ok(Value::Array(keys)) if keys.len() + 2 == self.columns.len() => keys,
            other => panic!(
                "a row needs one cell for each of {:?}, found {other:?}",
                &self.columns[..self.columns.len() - 2]
            ),
        };
        for (quantity, value) in values {
            let cells = [quantity.into(), value.into()];
            self.rows.push(keys.iter().cloned().chain(cells).collect());
        }
    }

    /// The cells of every row, in the order of the columns.
    pub fn rows(&self) -> &[Vec<Value>] {
        &self.rows
    }

    /// The table as comma-separated values with a header line.
    pub fn csv(&self) -> String {
        let mut text = self.columns.join(",") + "\n";
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(cell).collect();
            text += &(cells.join(",") + "\n");
        }
        text
    }

    /// The table as an array with an object for each row.
    pub fn json(&self) -> Value {
        let object = |row: &Vec<Value>| {
            let names = self.columns.iter().map(|name| name.to_string());
            Value::Object(names.zip(row.iter().cloned()).collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains([',', '"', '\n']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
