//! The types of PostgreSQL that columns of the lake become.

use std::fmt;

use arrow::datatypes::{DataType, Field, TimeUnit};

/// A type, shown as PostgreSQL's `format_type` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    Numeric {
        precision: u8,
        scale: u8,
    },
    Text,
    Bytes,
    Date,
    /// Microseconds, with or without a zone.
    Timestamp {
        zoned: bool,
    },
    Uuid,
    Array(Box<Self>),
}

impl Kind {
    /// What values of an Arrow type become.
    ///
    /// # Errors
    /// When PostgreSQL has nothing that holds them exactly.
    pub fn of(kind: &DataType) -> Result<Self, String> {
        Ok(match kind {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::SmallInt,
            DataType::UInt16 | DataType::Int32 => Self::Integer,
            DataType::UInt32 | DataType::Int64 => Self::BigInt,
            DataType::UInt64 => Self::Numeric { precision: 20, scale: 0 },
            DataType::Float32 => Self::Real,
            DataType::Float64 => Self::Double,
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                Self::Numeric { precision: *precision, scale: scale.unsigned_abs() }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytes
            }
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Microsecond, zone) => Self::Timestamp { zoned: zone.is_some() },
            DataType::Dictionary(_, values) => Self::of(values)?,
            DataType::List(item) | DataType::LargeList(item) => match Self::of(item.data_type())? {
                Self::Array(_) => return Err("lists of lists have no place in PostgreSQL; cast it".to_owned()),
                item => Self::Array(Box::new(item)),
            },
            other => return Err(format!("{other} has no type in PostgreSQL; cast it, or leave it out")),
        })
    }

    /// The one Arrow type that the encoder reads for it.
    #[must_use]
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::SmallInt => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Numeric { precision, scale } => {
                DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
            }
            Self::Text | Self::Uuid => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp { zoned: true } => crate::domain::schema::timestamp(),
            Self::Timestamp { zoned: false } => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Array(item) => DataType::List(std::sync::Arc::new(Field::new("element", item.arrow(), true))),
        }
    }

    /// The number of the type in `pg_type`, the same in every PostgreSQL.
    #[must_use]
    pub const fn oid(&self) -> u32 {
        match self {
            Self::Boolean => 16,
            Self::Bytes => 17,
            Self::BigInt => 20,
            Self::SmallInt => 21,
            Self::Integer => 23,
            Self::Text => 25,
            Self::Real => 700,
            Self::Double => 701,
            Self::Date => 1082,
            Self::Timestamp { zoned: false } => 1114,
            Self::Timestamp { zoned: true } => 1184,
            Self::Numeric { .. } => 1700,
            Self::Uuid => 2950,
            // Not asked for: arrays hold no arrays.
            Self::Array(_) => 0,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::SmallInt => f.write_str("smallint"),
            Self::Integer => f.write_str("integer"),
            Self::BigInt => f.write_str("bigint"),
            Self::Real => f.write_str("real"),
            Self::Double => f.write_str("double precision"),
            Self::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            Self::Text => f.write_str("text"),
            Self::Bytes => f.write_str("bytea"),
            Self::Date => f.write_str("date"),
            Self::Timestamp { zoned: true } => f.write_str("timestamp with time zone"),
            Self::Timestamp { zoned: false } => f.write_str("timestamp without time zone"),
            Self::Uuid => f.write_str("uuid"),
            Self::Array(item) => write!(f, "{item}[]"),
        }
    }
}
