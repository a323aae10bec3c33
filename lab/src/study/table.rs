use serde_json::{Map, Value};

/// The raw numbers of an experiment: a row a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[&'static str]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; a float that is not finite becomes an empty cell.
    ///
    /// # Panics
    ///
    /// If there is not one cell a column.
    pub fn push(&mut self, cells: Vec<Value>) {
        assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row of the table has one cell for each of {:?}",
            self.columns
        );
        self.rows.push(cells);
    }

    /// The rows, each in the order of the columns.
    pub fn rows(&self) -> &[Vec<Value>] {
        &self.rows
    }

    /// Comma-separated values with a header line.
    pub fn csv(&self) -> String {
        let mut text = self.columns.join(",") + "\n";
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(cell).collect();
            text += &(cells.join(",") + "\n");
        }
        text
    }

    /// An array with an object a row.
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

/// A row of a [`Table`], cell by cell.
macro_rules! row {
    ($($cell:expr),+ $(,)?) => {
        vec![$(serde_json::json!($cell)),+]
    };
}

pub(super) use row;
