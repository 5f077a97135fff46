//! The fields of a contract: the part of Avro that makes a table.

use arrow::datatypes::{DataType, Field};
use serde_json::Value;

use super::error::Problem;
use super::schema::{Named, Primitive, Record, Schema, SchemaField, Type};
use crate::domain::schema as provenance;

/// A field of one version of a contract.
#[derive(Debug, Clone)]
pub(super) struct ContractField {
    pub name: String,
    pub aliases: Vec<String>,
    pub kind: Kind,
    /// Whether a message may hold null here.
    pub nullable: bool,
    /// What stands here when the writer did not know the field.
    pub default: Option<Fill>,
    /// Version 1 lacks it, so the column is nullable whatever the message may hold.
    pub evolved: bool,
    pub slot: Slot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    String,
    Bytes,
    Enum { name: String, aliases: Vec<String>, symbols: Vec<String>, default: Option<String> },
    Date,
    TimestampMillis,
    TimestampMicros,
}

/// Where the values of a field are collected: the `index`-th column of a physical type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub physical: Physical,
    pub index: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Physical {
    Bool,
    I32,
    I64,
    F32,
    F64,
    Bytes,
}

/// A value for a field that a message does not have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fill {
    Null,
    Bool(bool),
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
    Bytes(Vec<u8>),
}

const SUPPORTED: &str = "use boolean, int, long, float, double, string, bytes, an enum, date, timestamp-millis or \
                         timestamp-micros, or a union of null and one of these";

impl ContractField {
    /// The column of this field.
    pub(super) fn column(&self) -> Field {
        Field::new(&self.name, self.kind.data_type(), self.has_validity())
    }

    pub(super) const fn has_validity(&self) -> bool {
        self.nullable || self.evolved
    }
}

impl Kind {
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::String | Self::Enum { .. } => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::TimestampMillis | Self::TimestampMicros => provenance::timestamp(),
        }
    }

    /// The type as the contract's author writes it.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Enum { .. } => "enum",
            Self::Date => "date",
            Self::TimestampMillis => "timestamp-millis",
            Self::TimestampMicros => "timestamp-micros",
        }
    }

    /// Microseconds per unit; 1 for what is no timestamp.
    pub(super) const fn scale(&self) -> i64 {
        if matches!(self, Self::TimestampMillis) { 1_000 } else { 1 }
    }

    const fn physical(&self) -> Physical {
        match self {
            Self::Boolean => Physical::Bool,
            Self::Int | Self::Date => Physical::I32,
            Self::Long | Self::TimestampMillis | Self::TimestampMicros => Physical::I64,
            Self::Float => Physical::F32,
            Self::Double => Physical::F64,
            Self::String | Self::Bytes | Self::Enum { .. } => Physical::Bytes,
        }
    }
}

/// The fields of a contract's record, in order.
pub(super) fn fields_of(schema: &Schema, record: &Record) -> Result<Vec<ContractField>, Problem> {
    if record.fields.is_empty() {
        return Err(Problem::new("the record has no fields", "declare at least one"));
    }
    let mut counts = [0; 6];
    let mut fields: Vec<ContractField> = Vec::with_capacity(record.fields.len());
    for declared in &record.fields {
        let mut field = field_of(schema, declared).map_err(|problem| problem.at(&declared.name))?;
        check_names(&field, &fields).map_err(|problem| problem.at(&declared.name))?;
        let count = &mut counts[field.slot.physical as usize];
        field.slot.index = *count;
        *count += 1;
        fields.push(field);
    }
    Ok(fields)
}

fn field_of(schema: &Schema, declared: &SchemaField) -> Result<ContractField, Problem> {
    let (ty, nullable) = match &declared.ty {
        Type::Union(branches) => match branches.as_slice() {
            [Type::Primitive(Primitive::Null, _), other] | [other, Type::Primitive(Primitive::Null, _)] => {
                (other, true)
            }
            _ => return Err(unsupported(schema, &declared.ty)),
        },
        other => (other, false),
    };
    let kind = kind_of(schema, ty)?;
    let default = declared.default.as_ref().map(|json| fill_of(json, &kind, nullable)).transpose()?;
    let slot = Slot { physical: kind.physical(), index: 0 };
    Ok(ContractField {
        name: declared.name.clone(),
        aliases: declared.aliases.clone(),
        kind,
        nullable,
        default,
        evolved: false,
        slot,
    })
}

fn kind_of(schema: &Schema, ty: &Type) -> Result<Kind, Problem> {
    Ok(match ty {
        Type::Primitive(primitive, None) => match primitive {
            Primitive::Boolean => Kind::Boolean,
            Primitive::Int => Kind::Int,
            Primitive::Long => Kind::Long,
            Primitive::Float => Kind::Float,
            Primitive::Double => Kind::Double,
            Primitive::String => Kind::String,
            Primitive::Bytes => Kind::Bytes,
            Primitive::Null => return Err(unsupported(schema, ty)),
        },
        Type::Primitive(primitive, Some(logical)) => match (primitive, logical.as_str()) {
            (Primitive::Int, "date") => Kind::Date,
            (Primitive::Long, "timestamp-millis") => Kind::TimestampMillis,
            (Primitive::Long, "timestamp-micros") => Kind::TimestampMicros,
            _ => return Err(unsupported(schema, ty)),
        },
        Type::Named(index) => match schema.named.get(*index) {
            Some(Named::Enum(declared)) => Kind::Enum {
                name: declared.name.clone(),
                aliases: declared.aliases.clone(),
                symbols: declared.symbols.clone(),
                default: declared.default.clone(),
            },
            _ => return Err(unsupported(schema, ty)),
        },
        Type::Array(_) | Type::Map(_) | Type::Union(_) => return Err(unsupported(schema, ty)),
    })
}

fn unsupported(schema: &Schema, ty: &Type) -> Problem {
    Problem::new(format!("type {} cannot be a column", schema.describe(ty)), SUPPORTED)
}

fn fill_of(json: &Value, kind: &Kind, nullable: bool) -> Result<Fill, Problem> {
    let wrong = || {
        let what = format!("the default {json} is no {}{}", kind.as_str(), if nullable { " and not null" } else { "" });
        Problem::new(what, "write a default of the field's own type")
    };
    if json.is_null() {
        return if nullable { Ok(Fill::Null) } else { Err(wrong()) };
    }
    let int = || json.as_i64().and_then(|value| i32::try_from(value).ok()).map(Fill::I32);
    let fill = match kind {
        Kind::Boolean => json.as_bool().map(Fill::Bool),
        Kind::Int | Kind::Date => int(),
        Kind::Long => json.as_i64().map(Fill::I64),
        Kind::TimestampMillis | Kind::TimestampMicros => {
            json.as_i64().and_then(|value| value.checked_mul(kind.scale())).map(Fill::I64)
        }
        #[allow(clippy::cast_possible_truncation, reason = "a float holds the nearest value by definition")]
        Kind::Float => json.as_f64().map(|value| value as f32).filter(|value| value.is_finite()).map(Fill::F32),
        Kind::Double => json.as_f64().map(Fill::F64),
        Kind::String => json.as_str().map(|text| Fill::Bytes(text.as_bytes().to_vec())),
        Kind::Bytes => json.as_str().and_then(latin1).map(Fill::Bytes),
        Kind::Enum { symbols, .. } => {
            let known = |text: &&str| symbols.iter().any(|symbol| symbol == text);
            json.as_str().filter(known).map(|text| Fill::Bytes(text.as_bytes().to_vec()))
        }
    };
    fill.ok_or_else(wrong)
}

/// Avro writes bytes in JSON as a string of the code points 0 to 255.
pub(super) fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// Tables fold the case of their columns, so names must differ in more than that.
fn check_names(field: &ContractField, earlier: &[ContractField]) -> Result<(), Problem> {
    let reserved = provenance::provenance().into_iter().map(|column| column.name().clone());
    let mut reserved =
        reserved.chain([provenance::BROKEN, provenance::WINDOW_START, provenance::WINDOW_END].map(Into::into));
    if let Some(column) = reserved.find(|column| column.eq_ignore_ascii_case(&field.name)) {
        let remedy = "rename the field and keep the old name in its `aliases`";
        return Err(Problem::new(format!("`{column}` is a column that every table already has"), remedy));
    }
    if let Some(known) = earlier.iter().find(|known| known.name.eq_ignore_ascii_case(&field.name)) {
        return Err(Problem::new(format!("differs from `{}` only in case", known.name), "rename one of the two"));
    }
    let own = |name: &str| field.name == name || field.aliases.iter().any(|alias| alias == name);
    for known in earlier {
        let mut names = known.aliases.iter().chain([&known.name]);
        if let Some(shared) = names.find(|name| own(name)) {
            return Err(Problem::new(format!("`{shared}` also names `{}`", known.name), "remove the alias from one"));
        }
    }
    Ok(())
}
