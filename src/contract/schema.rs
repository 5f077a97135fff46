//! Avro schemas as data. A writer may use all of Avro; what a contract may use is decided in `field.rs`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::error::Problem;

/// A schema with its named types pulled out, so that recursion is an index.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    pub named: Vec<Named>,
    pub root: Type,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// With its logical type, if it has one.
    Primitive(Primitive, Option<String>),
    Array(Box<Self>),
    Map(Box<Self>),
    Union(Vec<Self>),
    /// An index of [`Schema::named`].
    Named(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

#[derive(Debug, Clone)]
pub(super) enum Named {
    Record(Record),
    Enum(Enumeration),
    Fixed { name: String, bytes: usize },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// With its namespace.
    pub name: String,
    pub aliases: Vec<String>,
    pub fields: Vec<SchemaField>,
}

#[derive(Debug, Clone)]
pub(super) struct Enumeration {
    /// With its namespace.
    pub name: String,
    pub aliases: Vec<String>,
    pub symbols: Vec<String>,
    pub default: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct SchemaField {
    pub name: String,
    pub aliases: Vec<String>,
    pub ty: Type,
    pub default: Option<Value>,
}

impl Schema {
    pub(super) fn parse(json: &Value) -> Result<Self, Problem> {
        let mut parser = Parser::default();
        let root = parser.parse(json, "")?;
        Ok(Self { named: parser.named, root })
    }

    pub(super) fn record(&self) -> Option<&Record> {
        match &self.root {
            Type::Named(index) => match self.named.get(*index) {
                Some(Named::Record(record)) => Some(record),
                _ => None,
            },
            _ => None,
        }
    }

    /// The type in words.
    pub(super) fn describe(&self, ty: &Type) -> String {
        match ty {
            Type::Primitive(primitive, None) => primitive.as_str().to_owned(),
            Type::Primitive(primitive, Some(logical)) => format!("{} ({logical})", primitive.as_str()),
            Type::Array(_) => "array".to_owned(),
            Type::Map(_) => "map".to_owned(),
            Type::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(|branch| self.describe(branch)).collect();
                format!("[{}]", branches.join(", "))
            }
            Type::Named(index) => match self.named.get(*index) {
                Some(Named::Record(record)) => format!("record {}", record.name),
                Some(Named::Enum(enumeration)) => format!("enum {}", enumeration.name),
                Some(Named::Fixed { name, .. }) => format!("fixed {name}"),
                None => "unknown".to_owned(),
            },
        }
    }
}

impl Primitive {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            _ => return None,
        })
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }
}

/// The name without its namespace.
pub(super) fn unqualified(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

#[derive(Default)]
struct Parser {
    named: Vec<Named>,
    names: HashMap<String, usize>,
}

impl Parser {
    fn parse(&mut self, json: &Value, namespace: &str) -> Result<Type, Problem> {
        match json {
            Value::String(name) => self.reference(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            other => {
                Err(Problem::new(format!("{other} is not an Avro type"), "write a type name, an object or a union"))
            }
        }
    }

    fn reference(&self, name: &str, namespace: &str) -> Result<Type, Problem> {
        if let Some(primitive) = Primitive::parse(name) {
            return Ok(Type::Primitive(primitive, None));
        }
        let known = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
        known.map(|index| Type::Named(*index)).ok_or_else(|| {
            Problem::new(
                format!("`{name}` is not an Avro type"),
                "use a primitive type or define the type where it is first used",
            )
        })
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<Type, Problem> {
        if branches.is_empty() {
            return Err(Problem::new("a union without branches", "give it the types it may hold"));
        }
        let mut types: Vec<Type> = Vec::with_capacity(branches.len());
        for branch in branches {
            let ty = self.parse(branch, namespace)?;
            if matches!(ty, Type::Union(_)) {
                return Err(Problem::new("a union directly in a union", "write one union with all the branches"));
            }
            if types.iter().any(|known| same_branch(known, &ty)) {
                return Err(Problem::new("a union with one type twice", "remove one of the two"));
            }
            types.push(ty);
        }
        Ok(Type::Union(types))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, Problem> {
        let kind = object.get("type").ok_or_else(|| Problem::new("a type without `type`", "add it"))?;
        let Value::String(kind) = kind else { return self.parse(kind, namespace) };
        match kind.as_str() {
            "record" | "error" => self.record(object, namespace),
            "enum" => self.enumeration(object, namespace),
            "fixed" => self.fixed(object, namespace),
            "array" => Ok(Type::Array(Box::new(self.inner(object, "items", namespace)?))),
            "map" => Ok(Type::Map(Box::new(self.inner(object, "values", namespace)?))),
            name => match self.reference(name, namespace)? {
                Type::Primitive(primitive, _) => {
                    Ok(Type::Primitive(primitive, object.get("logicalType").and_then(Value::as_str).map(str::to_owned)))
                }
                other => Ok(other),
            },
        }
    }

    fn inner(&mut self, object: &Map<String, Value>, key: &str, namespace: &str) -> Result<Type, Problem> {
        let json = object.get(key).ok_or_else(|| Problem::new(format!("a type without `{key}`"), "add it"))?;
        self.parse(json, namespace)
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, Problem> {
        let (name, namespace) = declared_name(object, namespace)?;
        let aliases = strings(object, "aliases")?;
        let index = self.declare(&name, Named::Record(Record { name: name.clone(), ..Record::default() }))?;
        let Some(Value::Array(list)) = object.get("fields") else {
            return Err(Problem::new(format!("record `{name}` has no `fields`"), "give it a list of fields"));
        };
        let mut fields: Vec<SchemaField> = Vec::with_capacity(list.len());
        for json in list {
            let field = self.field(json, &namespace)?;
            if fields.iter().any(|known| known.name == field.name) {
                return Err(Problem::new("declared twice", "remove or rename one of the two").at(&field.name));
            }
            fields.push(field);
        }
        self.named[index] = Named::Record(Record { name, aliases, fields });
        Ok(Type::Named(index))
    }

    fn field(&mut self, json: &Value, namespace: &str) -> Result<SchemaField, Problem> {
        let Value::Object(object) = json else {
            return Err(Problem::new(format!("{json} is not a field"), "write an object with `name` and `type`"));
        };
        let name = plain_name(object)?;
        let aliases = strings(object, "aliases").map_err(|problem| problem.at(&name))?;
        let ty = self.inner(object, "type", namespace).map_err(|problem| problem.at(&name))?;
        Ok(SchemaField { name, aliases, ty, default: object.get("default").cloned() })
    }

    fn enumeration(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, Problem> {
        let (name, _) = declared_name(object, namespace)?;
        let symbols = strings(object, "symbols")?;
        if symbols.is_empty() {
            return Err(Problem::new(format!("enum `{name}` has no `symbols`"), "list them"));
        }
        if let Some(twice) = symbols.iter().enumerate().find(|(at, symbol)| symbols[..*at].contains(symbol)) {
            return Err(Problem::new(format!("enum `{name}` has `{}` twice", twice.1), "remove one of the two"));
        }
        let default = object.get("default").and_then(Value::as_str).map(str::to_owned);
        if let Some(unknown) = default.as_ref().filter(|default| !symbols.contains(default)) {
            return Err(Problem::new(
                format!("the default `{unknown}` of enum `{name}` is no symbol of it"),
                "use one",
            ));
        }
        let aliases = strings(object, "aliases")?;
        let index = self.declare(&name.clone(), Named::Enum(Enumeration { name, aliases, symbols, default }))?;
        Ok(Type::Named(index))
    }

    fn fixed(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, Problem> {
        let (name, _) = declared_name(object, namespace)?;
        let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        let bytes =
            size.ok_or_else(|| Problem::new(format!("fixed `{name}` has no `size`"), "give it a number of bytes"))?;
        let index = self.declare(&name.clone(), Named::Fixed { name, bytes })?;
        Ok(Type::Named(index))
    }

    fn declare(&mut self, name: &str, named: Named) -> Result<usize, Problem> {
        let index = self.named.len();
        if self.names.insert(name.to_owned(), index).is_some() {
            return Err(Problem::new(format!("type `{name}` is defined twice"), "refer to it by name the second time"));
        }
        self.named.push(named);
        Ok(index)
    }
}

fn same_branch(left: &Type, right: &Type) -> bool {
    match (left, right) {
        (Type::Primitive(left, _), Type::Primitive(right, _)) => left == right,
        (Type::Array(_), Type::Array(_)) | (Type::Map(_), Type::Map(_)) => true,
        (left, right) => left == right,
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// The full name of a named type, and the namespace of what is in it.
fn declared_name(object: &Map<String, Value>, enclosing: &str) -> Result<(String, String), Problem> {
    let name = object.get("name").and_then(Value::as_str).unwrap_or_default();
    let own = object.get("namespace").and_then(Value::as_str).unwrap_or(enclosing);
    let full = full_name(name, own);
    if !full.split('.').all(is_name) {
        return Err(Problem::new(format!("`{full}` is not a name"), NAME));
    }
    let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
    Ok((full, namespace))
}

fn plain_name(object: &Map<String, Value>) -> Result<String, Problem> {
    let name = object.get("name").and_then(Value::as_str).unwrap_or_default();
    if is_name(name) { Ok(name.to_owned()) } else { Err(Problem::new(format!("`{name}` is not a field name"), NAME)) }
}

const NAME: &str = "use A-Z, a-z, 0-9 and _, not beginning with a digit";

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(plain) && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

fn strings(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, Problem> {
    let Some(json) = object.get(key) else { return Ok(Vec::new()) };
    let error = || Problem::new(format!("`{key}` is not a list of strings"), "write [\"…\"]");
    let list = json.as_array().ok_or_else(error)?;
    list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(error)).collect()
}
