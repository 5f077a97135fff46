//! A graph that grows node by node: each step names its result, which the next steps read.

use super::proto::{
    AttributeProto, Dimension, DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute, element,
};

/// The domain of the operators for classical models.
pub const ML_DOMAIN: &str = "ai.onnx.ml";

#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
}

impl Graph {
    /// An input of one value a row.
    pub fn input(&mut self, name: &str, kind: i32, about: &str) {
        self.inputs.push(value(name, kind, about, Some(1)));
    }

    /// An output of one value a row, which is the result of a step under another name.
    pub fn output(&mut self, name: &str, from: &str, kind: i32, about: &str) {
        let rows = self.longs(&format!("{name}_shape"), &[-1]);
        self.step("Reshape", &[from, &rows], name, Vec::new());
        self.outputs.push(value(name, kind, about, None));
    }

    /// One operator; its result is called `name`.
    pub fn step(&mut self, operator: &str, inputs: &[&str], name: &str, attributes: Vec<AttributeProto>) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute: attributes,
            domain: String::new(),
        });
        name.to_owned()
    }

    /// One operator for classical models.
    pub fn ml_step(&mut self, operator: &str, inputs: &[&str], name: &str, attributes: Vec<AttributeProto>) -> String {
        let name = self.step(operator, inputs, name, attributes);
        if let Some(node) = self.nodes.last_mut() {
            ML_DOMAIN.clone_into(&mut node.domain);
        }
        name
    }

    pub fn cast(&mut self, from: &str, to: i32, name: &str) -> String {
        self.step("Cast", &[from], name, vec![int("to", i64::from(to))])
    }

    pub fn concat(&mut self, parts: &[&str], name: &str) -> String {
        match parts {
            [one] => (*one).to_owned(),
            parts => self.step("Concat", parts, name, vec![int("axis", 1)]),
        }
    }

    /// Columns by their places; all of them in their order cost nothing.
    pub fn columns(&mut self, from: &str, places: &[i64], width: usize, name: &str) -> String {
        if places.len() == width && places.iter().zip(0..).all(|(place, at)| *place == at) {
            return from.to_owned();
        }
        let places = self.longs(&format!("{name}_places"), places);
        self.step("Gather", &[from, &places], name, vec![int("axis", 1)])
    }

    /// A row of numbers that is laid beside every row.
    pub fn floats(&mut self, name: &str, values: &[f32]) -> String {
        self.constant(TensorProto {
            dims: vec![1, length(values.len())],
            data_type: element::FLOAT,
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            name: name.to_owned(),
            ..TensorProto::default()
        })
    }

    pub fn doubles(&mut self, name: &str, dims: &[usize], values: &[f64]) -> String {
        self.constant(TensorProto { name: name.to_owned(), ..doubles(dims, values) })
    }

    pub fn double(&mut self, name: &str, value: f64) -> String {
        self.doubles(name, &[], &[value])
    }

    pub fn longs(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(TensorProto {
            dims: vec![length(values.len())],
            data_type: element::INT64,
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            name: name.to_owned(),
            ..TensorProto::default()
        })
    }

    fn constant(&mut self, tensor: TensorProto) -> String {
        let name = tensor.name.clone();
        self.constants.push(tensor);
        name
    }

    pub fn finish(self, name: &str) -> GraphProto {
        GraphProto {
            node: self.nodes,
            name: name.to_owned(),
            initializer: self.constants,
            input: self.inputs,
            output: self.outputs,
        }
    }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(value), kind: attribute::INT, ..AttributeProto::default() }
}

pub fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints: values, kind: attribute::INTS, ..AttributeProto::default() }
}

pub fn texts<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> AttributeProto {
    let strings = values.map(|value| value.as_bytes().to_vec()).collect();
    AttributeProto { name: name.to_owned(), strings, kind: attribute::STRINGS, ..AttributeProto::default() }
}

pub fn tensor(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { name: name.to_owned(), t: Some(tensor), kind: attribute::TENSOR, ..AttributeProto::default() }
}

pub fn doubles(dims: &[usize], values: &[f64]) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|&size| length(size)).collect(),
        data_type: element::DOUBLE,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

pub fn bytes(values: Vec<u8>) -> TensorProto {
    let dims = vec![length(values.len())];
    TensorProto { dims, data_type: element::UINT8, raw_data: values, ..TensorProto::default() }
}

fn length(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Any number of rows; with a second dimension of `columns`, if one is given.
fn value(name: &str, kind: i32, about: &str, columns: Option<i64>) -> ValueInfoProto {
    let rows = DimensionProto { value: Some(Dimension::Param("rows".to_owned())) };
    let columns = columns.map(|columns| DimensionProto { value: Some(Dimension::Value(columns)) });
    let shape = TensorShapeProto { dim: [rows].into_iter().chain(columns).collect() };
    let tensor_type = TensorTypeProto { elem_type: kind, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
        doc_string: about.to_owned(),
    }
}
