//! Avro's schema resolution: how the bytes of one schema become the columns of another.

use super::error::Problem;
use super::field::{ContractField, Fill, Kind, Slot};
use super::schema::{Enumeration, Named, Primitive, Schema, Type, unqualified};

/// How to read the messages of one writer's schema.
#[derive(Debug)]
pub(super) struct Plan {
    pub schema: Schema,
    /// One for each field of the writer, in order.
    pub steps: Vec<Step>,
    /// The columns that the writer does not know.
    pub fills: Vec<(Slot, Fill)>,
    /// Whether the writer knows a field that version 1 lacks.
    pub evolved: bool,
    /// Values that the writer may send and that cannot be read: each such message is refused.
    pub partial: Vec<Problem>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub field: String,
    pub read: Read,
}

#[derive(Debug)]
pub(super) enum Read {
    Leaf(Leaf),
    Union(Box<[Branch]>),
    Skip(Type),
}

#[derive(Debug)]
pub(super) enum Branch {
    Null(Slot),
    /// Null where the contract requires a value.
    Absent,
    Leaf(Leaf),
    /// A type that cannot be read; says why.
    Refused(String),
}

/// A value to read; the number is the index of its column among those of its physical type.
#[derive(Debug)]
pub(super) enum Leaf {
    Bool(usize),
    Int(usize),
    IntAsLong(usize, i64),
    IntAsFloat(usize),
    IntAsDouble(usize),
    Long(usize),
    LongTimes(usize, i64),
    LongAsFloat(usize),
    LongAsDouble(usize),
    Float(usize),
    FloatAsDouble(usize),
    Double(usize),
    Text(usize),
    Bytes(usize),
    /// The contract's symbol for each of the writer's.
    Enum(usize, Box<[Option<Box<str>>]>),
}

/// Resolves a writer's schema against the contract's fields.
///
/// `names` are the unqualified names that the writer's record may have.
pub(super) fn resolve(writer: Schema, names: &[String], fields: &[ContractField]) -> Result<Plan, Problem> {
    let Some(record) = writer.record() else {
        let what = format!("the schema is {}, not a record", writer.describe(&writer.root));
        return Err(Problem::new(what, "send records"));
    };
    if !names.iter().any(|name| name == unqualified(&record.name)) {
        let what = format!("the record is named `{}`, not `{}`", unqualified(&record.name), names.join("` or `"));
        return Err(Problem::new(what, "rename it, or list the name in the `aliases` of the contract's record"));
    }
    let readers: Vec<Option<&ContractField>> = reader_of_each(&record.fields, fields);
    let mut partial = Vec::new();
    let mut steps = Vec::with_capacity(record.fields.len());
    for (declared, reader) in record.fields.iter().zip(&readers) {
        let read = match reader {
            None => Read::Skip(declared.ty.clone()),
            Some(field) => read_of(&writer, &declared.ty, field, &mut partial).map_err(|what| mismatch(what, field))?,
        };
        steps.push(Step { field: declared.name.clone(), read });
    }
    let mut fills = Vec::new();
    let mut evolved = false;
    for field in fields {
        let known = readers.iter().flatten().any(|reader| reader.name == field.name);
        evolved |= known && field.evolved;
        if known {
            continue;
        }
        let Some(default) = &field.default else {
            let remedy = "give it a default (null needs a union with null)";
            return Err(Problem::new("the writer does not have it and it has no default", remedy).at(&field.name));
        };
        fills.push((field.slot, default.clone()));
    }
    Ok(Plan { steps, fills, evolved, partial, schema: writer })
}

/// By name first; an alias takes what no name has claimed.
fn reader_of_each<'a>(
    written: &[super::schema::SchemaField],
    fields: &'a [ContractField],
) -> Vec<Option<&'a ContractField>> {
    let mut readers: Vec<Option<&ContractField>> =
        written.iter().map(|declared| fields.iter().find(|field| field.name == declared.name)).collect();
    for field in fields {
        if readers.iter().flatten().any(|reader| reader.name == field.name) {
            continue;
        }
        let by_alias = |alias: &String| written.iter().position(|declared| declared.name == *alias);
        let free = field.aliases.iter().filter_map(by_alias).find(|at| readers.get(*at).is_some_and(Option::is_none));
        if let Some(reader) = free.and_then(|at| readers.get_mut(at)) {
            *reader = Some(field);
        }
    }
    readers
}

fn mismatch(what: String, field: &ContractField) -> Problem {
    Problem::new(what, "keep the type, widen it (int → long → float → double, string ↔ bytes), or add a new field")
        .at(&field.name)
}

fn read_of(writer: &Schema, ty: &Type, field: &ContractField, partial: &mut Vec<Problem>) -> Result<Read, String> {
    let Type::Union(types) = ty else {
        return match ty {
            Type::Primitive(Primitive::Null, _) => Err("the writer only sends null".to_owned()),
            other => leaf_of(writer, other, field, partial).map(Read::Leaf),
        };
    };
    let mut branches = Vec::with_capacity(types.len());
    for ty in types {
        branches.push(match ty {
            Type::Primitive(Primitive::Null, _) if field.nullable => Branch::Null(field.slot),
            Type::Primitive(Primitive::Null, _) => {
                partial.push(mismatch("the writer may send null, which the reader does not allow".to_owned(), field));
                Branch::Absent
            }
            other => match leaf_of(writer, other, field, partial) {
                Ok(leaf) => Branch::Leaf(leaf),
                Err(what) => {
                    partial.push(mismatch(what.clone(), field));
                    Branch::Refused(what)
                }
            },
        });
    }
    let readable = |branch: &Branch| matches!(branch, Branch::Leaf(_));
    if branches.iter().any(readable) {
        return Ok(Read::Union(branches.into()));
    }
    Err(format!("{} cannot be read as {}", writer.describe(ty), field.kind.as_str()))
}

fn leaf_of(writer: &Schema, ty: &Type, field: &ContractField, partial: &mut Vec<Problem>) -> Result<Leaf, String> {
    let refused = || format!("{} cannot be read as {}", writer.describe(ty), field.kind.as_str());
    let at = field.slot.index;
    match ty {
        Type::Primitive(primitive, logical) => {
            primitive_leaf(*primitive, logical.as_deref(), &field.kind, at).ok_or_else(refused)
        }
        Type::Named(index) => match (writer.named.get(*index), &field.kind) {
            (Some(Named::Enum(written)), Kind::Enum { name, aliases, symbols, default }) => {
                let known = aliases.iter().chain([name]).any(|name| unqualified(name) == unqualified(&written.name));
                if !known {
                    return Err(refused());
                }
                let map = symbol_map(written, symbols, default.as_deref());
                if let Some((_, symbol)) = map.iter().zip(&written.symbols).find(|(known, _)| known.is_none()) {
                    let remedy = "keep the symbol, or give the enum a default";
                    partial.push(Problem::new(format!("the symbol `{symbol}` is gone"), remedy).at(&field.name));
                }
                Ok(Leaf::Enum(at, map))
            }
            _ => Err(refused()),
        },
        Type::Array(_) | Type::Map(_) | Type::Union(_) => Err(refused()),
    }
}

/// A logical type never changes the bytes, but its unit does change the value.
fn primitive_leaf(primitive: Primitive, logical: Option<&str>, kind: &Kind, at: usize) -> Option<Leaf> {
    let timestamp = matches!(kind, Kind::TimestampMillis | Kind::TimestampMicros);
    Some(match (primitive, kind) {
        (Primitive::Boolean, Kind::Boolean) => Leaf::Bool(at),
        (Primitive::Int, Kind::Int) => Leaf::Int(at),
        (Primitive::Int, Kind::Date) if matches!(logical, None | Some("date")) => Leaf::Int(at),
        (Primitive::Int, Kind::Long) => Leaf::IntAsLong(at, 1),
        (Primitive::Int, _) if timestamp && logical.is_none() => Leaf::IntAsLong(at, kind.scale()),
        (Primitive::Int, Kind::Float) => Leaf::IntAsFloat(at),
        (Primitive::Int, Kind::Double) => Leaf::IntAsDouble(at),
        (Primitive::Long, Kind::Long) => Leaf::Long(at),
        (Primitive::Long, _) if timestamp => match logical.map_or(Some(kind.scale()), unit_us)? {
            1 => Leaf::Long(at),
            scale => Leaf::LongTimes(at, scale),
        },
        (Primitive::Long, Kind::Float) => Leaf::LongAsFloat(at),
        (Primitive::Long, Kind::Double) => Leaf::LongAsDouble(at),
        (Primitive::Float, Kind::Float) => Leaf::Float(at),
        (Primitive::Float, Kind::Double) => Leaf::FloatAsDouble(at),
        (Primitive::Double, Kind::Double) => Leaf::Double(at),
        (Primitive::String, Kind::String) => Leaf::Text(at),
        (Primitive::Bytes, Kind::String) if logical.is_none() => Leaf::Text(at),
        (Primitive::String, Kind::Bytes) => Leaf::Bytes(at),
        (Primitive::Bytes, Kind::Bytes) if logical.is_none() => Leaf::Bytes(at),
        _ => return None,
    })
}

fn unit_us(logical: &str) -> Option<i64> {
    match logical {
        "timestamp-millis" => Some(1_000),
        "timestamp-micros" => Some(1),
        _ => None,
    }
}

fn symbol_map(written: &Enumeration, symbols: &[String], default: Option<&str>) -> Box<[Option<Box<str>>]> {
    let known = |symbol: &&str| symbols.iter().any(|known| known == symbol);
    let find = |symbol: &String| Some(symbol.as_str()).filter(known).or(default).map(Box::from);
    written.symbols.iter().map(find).collect()
}
