//! The expressions over rows of the source, evaluated once a batch for all tables of an engine.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use rayon::prelude::*;

use super::error::WindowError;
use super::intern::Interner;
use super::numbers::{self, Numbers};

/// Windows of event times beyond this could leave the range of a timestamp.
const EVENT_TIME_MAX_US: i64 = i64::MAX / 4;

/// Rows that are worth the hand-over to other threads.
pub(super) const ROWS_SIDE_BY_SIDE: usize = if cfg!(test) { 2 } else { 4096 };

/// Evaluates what the tables need, each expression once for each distinct WHERE clause.
#[derive(Debug)]
pub(super) struct Evaluator {
    /// The columns of the source that are read; the event time is the first.
    schema: SchemaRef,
    df_schema: DFSchema,
    contexts: Vec<Context>,
    /// The expression of each interner.
    interned: Vec<Expr>,
}

/// The expressions of an [`Evaluator`] without what it learns from rows.
#[derive(Debug)]
pub(super) struct Expressions {
    schema: SchemaRef,
    contexts: Vec<ContextExpressions>,
}

/// Those that are needed in one context: `None` stands for one that is answered by code.
#[derive(Debug)]
struct ContextExpressions {
    predicate: Option<Arc<dyn PhysicalExpr>>,
    expressions: Vec<Option<Arc<dyn PhysicalExpr>>>,
}

/// One batch in one context: the values of each expression.
#[derive(Debug)]
pub(super) struct Computed {
    times: ScalarBuffer<i64>,
    arrays: Vec<Option<ArrayRef>>,
}

/// The rows that pass one WHERE clause.
#[derive(Debug)]
struct Context {
    predicate: Option<(Expr, Arc<dyn PhysicalExpr>)>,
    expressions: Vec<(Expr, Arc<dyn PhysicalExpr>)>,
    inputs: Vec<Input>,
}

#[derive(Debug)]
struct Input {
    expression: usize,
    form: Form,
    /// For a condition on one string: the answer for each code, so that strings are not compared row by row.
    by_code: Option<ByCode>,
}

#[derive(Debug)]
struct ByCode {
    codes: usize,
    interner: usize,
    schema: SchemaRef,
    condition: Arc<dyn PhysicalExpr>,
    answers: Vec<u8>,
}

/// What is made of an expression's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Integers, decimals and instants.
    Numbers,
    Floats,
    /// Where it is true.
    Truth,
    /// Where it is false, and not NULL.
    Falsehood,
    /// Where it is not NULL.
    Presence,
    /// Codes of the interner with this number.
    Codes(usize),
}

/// The values of one input for the rows of one batch.
#[derive(Debug)]
pub(super) enum Values {
    Narrow(Vec<i64>, Option<NullBuffer>),
    Wide(Vec<i128>, Option<NullBuffer>),
    Floats(ScalarBuffer<f64>, Option<NullBuffer>),
    Mask(BooleanBuffer),
    Codes(Vec<u32>),
}

/// One batch, evaluated in one context.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub times: ScalarBuffer<i64>,
    pub values: Vec<Values>,
}

impl Evaluated {
    /// The codes of an input that was added as such.
    pub fn codes(&self, input: usize) -> &[u32] {
        match &self.values[input] {
            Values::Codes(codes) => codes,
            _ => &[],
        }
    }

    pub fn mask(&self, input: Option<usize>) -> Option<&BooleanBuffer> {
        match &self.values[input?] {
            Values::Mask(mask) => Some(mask),
            _ => None,
        }
    }
}

impl Evaluator {
    /// `columns` are those of the source that expressions read, besides `event_time`.
    pub fn new(source: &Schema, event_time: &str, columns: &[String]) -> Result<Self, WindowError> {
        let names =
            std::iter::once(event_time).chain(columns.iter().map(String::as_str).filter(|name| *name != event_time));
        let field = |name: &str| {
            let missing = || WindowError::MissingColumn { column: name.to_owned(), expected: "any".to_owned() };
            source.field_with_name(name).cloned().map_err(|_| missing())
        };
        let schema = Arc::new(Schema::new(names.map(field).collect::<Result<Vec<_>, _>>()?));
        let df_schema = DFSchema::try_from(schema.as_ref().clone()).map_err(expression_error)?;
        Ok(Self { schema, df_schema, contexts: Vec::new(), interned: Vec::new() })
    }

    pub fn column_names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The context of a WHERE clause.
    pub fn context(&mut self, predicate: Option<&Expr>, props: &ExecutionProps) -> Result<usize, WindowError> {
        let known = self.contexts.iter().position(|known| known.predicate.as_ref().map(|known| &known.0) == predicate);
        if let Some(known) = known {
            return Ok(known);
        }
        let predicate = match predicate {
            Some(expr) => Some((expr.clone(), physical(expr, &self.df_schema, props)?)),
            None => None,
        };
        self.contexts.push(Context { predicate, expressions: Vec::new(), inputs: Vec::new() });
        Ok(self.contexts.len() - 1)
    }

    /// The number of an input of a context, the same for the same expression and form.
    pub fn input(
        &mut self,
        context: usize,
        expr: &Expr,
        form: Form,
        props: &ExecutionProps,
    ) -> Result<usize, WindowError> {
        let expressions = &mut self.contexts[context].expressions;
        let expression = match expressions.iter().position(|known| known.0 == *expr) {
            Some(known) => known,
            None => {
                expressions.push((expr.clone(), physical(expr, &self.df_schema, props)?));
                expressions.len() - 1
            }
        };
        let inputs = &self.contexts[context].inputs;
        if let Some(known) = inputs.iter().position(|known| known.expression == expression && known.form == form) {
            return Ok(known);
        }
        self.contexts[context].inputs.push(Input { expression, form, by_code: None });
        Ok(self.contexts[context].inputs.len() - 1)
    }

    /// An input of codes.
    pub fn codes(
        &mut self,
        context: usize,
        expr: &Expr,
        interners: &mut Vec<Interner>,
        props: &ExecutionProps,
    ) -> Result<(usize, usize), WindowError> {
        let interner = match self.interned.iter().position(|known| known == expr) {
            Some(known) => known,
            None => {
                let kind = physical(expr, &self.df_schema, props)?.data_type(&self.schema).map_err(expression_error)?;
                let interner = Interner::new(&plain(&kind));
                let refused = || WindowError::MissingColumn { column: expr.to_string(), expected: "a key".to_owned() };
                interners.push(interner.ok_or_else(refused)?);
                self.interned.push(expr.clone());
                self.interned.len() - 1
            }
        };
        Ok((self.input(context, expr, Form::Codes(interner), props)?, interner))
    }

    /// An input of the rows for which a condition is true.
    pub fn truth(
        &mut self,
        context: usize,
        expr: &Expr,
        interners: &mut Vec<Interner>,
        props: &ExecutionProps,
    ) -> Result<usize, WindowError> {
        let input = self.input(context, expr, Form::Truth, props)?;
        let columns = expr.column_refs();
        let mut columns = columns.into_iter();
        if let (Some(column), None) = (columns.next(), columns.next())
            && let Ok(field) = self.schema.field_with_name(&column.name)
            && *field.data_type() == DataType::Utf8
            && self.contexts[context].inputs[input].by_code.is_none()
        {
            let schema = Arc::new(Schema::new(vec![Field::new(&column.name, DataType::Utf8, true)]));
            let df_schema = DFSchema::try_from(schema.as_ref().clone()).map_err(expression_error)?;
            let condition = physical(expr, &df_schema, props)?;
            let (codes, interner) = self.codes(context, &Expr::Column(column.clone()), interners, props)?;
            let by_code = ByCode { codes, interner, schema, condition, answers: Vec::new() };
            self.contexts[context].inputs[input].by_code = Some(by_code);
        }
        Ok(input)
    }

    /// The answers by code are void when codes have been freed.
    pub fn forget_codes(&mut self) {
        let inputs = self.contexts.iter_mut().flat_map(|context| &mut context.inputs);
        inputs.filter_map(|input| input.by_code.as_mut()).for_each(|by_code| by_code.answers.clear());
    }

    /// As [`Expressions::project`].
    pub fn project(&self, rows: &RecordBatch) -> Result<RecordBatch, WindowError> {
        project(&self.schema, rows)
    }

    /// The part of an evaluation that needs no codes, for another thread.
    pub fn expressions(&self) -> Expressions {
        let contexts = self.contexts.iter().map(Context::expressions).collect();
        Expressions { schema: Arc::clone(&self.schema), contexts }
    }

    /// Evaluates projected rows in every context.
    pub fn evaluate(&mut self, rows: &RecordBatch, interners: &mut [Interner]) -> Result<Vec<Evaluated>, WindowError> {
        let computed = self.expressions().compute(rows)?;
        self.encode(computed, interners)
    }

    /// Gives codes to what was computed from one batch.
    pub fn encode(
        &mut self,
        computed: Vec<Computed>,
        interners: &mut [Interner],
    ) -> Result<Vec<Evaluated>, WindowError> {
        let rows: usize = computed.iter().map(|computed| computed.times.len()).sum();
        let mut codes = {
            let encode = |(number, interner): (usize, &mut Interner)| {
                let parts = self.contexts.iter().zip(&computed);
                parts.map(|(context, computed)| context.codes(number, computed, interner)).collect::<Vec<_>>()
            };
            let interners = interners.iter_mut().enumerate();
            if rows < ROWS_SIDE_BY_SIDE {
                interners.map(encode).collect::<Vec<_>>()
            } else {
                interners.collect::<Vec<_>>().into_par_iter().map(encode).collect()
            }
        };
        let contexts = self.contexts.iter_mut().zip(computed).enumerate();
        contexts
            .map(|(number, (context, computed))| {
                let codes = codes.iter_mut().map(|codes| codes[number].take()).collect();
                context.evaluate(computed, codes, interners).map_err(expression_error)
            })
            .collect()
    }
}

impl Expressions {
    /// The columns that are read, in the order and with the types of the evaluator.
    pub fn project(&self, rows: &RecordBatch) -> Result<RecordBatch, WindowError> {
        project(&self.schema, rows)
    }

    /// Computes every expression for projected rows, in every context.
    pub fn compute(&self, rows: &RecordBatch) -> Result<Vec<Computed>, WindowError> {
        self.contexts.iter().map(|context| context.compute(rows).map_err(expression_error)).collect()
    }
}

impl ContextExpressions {
    fn compute(&self, rows: &RecordBatch) -> Result<Computed, DataFusionError> {
        let kept;
        let rows = match &self.predicate {
            Some(predicate) => {
                let passes = predicate.evaluate(rows)?.into_array(rows.num_rows())?;
                kept = filter_record_batch(rows, passes.as_boolean())?;
                &kept
            }
            None => rows,
        };
        let values = |expression: &Option<Arc<dyn PhysicalExpr>>| {
            let Some(expression) = expression else { return Ok(None) };
            let array = expression.evaluate(rows)?.into_array(rows.num_rows())?;
            Ok::<_, DataFusionError>(Some(as_type(&array, &plain(array.data_type()))?))
        };
        let arrays = self.expressions.iter().map(values).collect::<Result<_, _>>()?;
        let times = rows.column(0).as_primitive::<TimestampMicrosecondType>().values().clone();
        Ok(Computed { times, arrays })
    }
}

impl Context {
    fn expressions(&self) -> ContextExpressions {
        let read =
            |number: usize| self.inputs.iter().any(|input| input.expression == number && input.by_code.is_none());
        let expressions = self.expressions.iter().enumerate();
        ContextExpressions {
            predicate: self.predicate.as_ref().map(|(_, predicate)| Arc::clone(predicate)),
            expressions: expressions.map(|(number, (_, expr))| read(number).then(|| Arc::clone(expr))).collect(),
        }
    }

    /// The codes of the input that is of this interner. There is one such input at most: an interner has one expression.
    fn codes(&self, interner: usize, computed: &Computed, codes: &mut Interner) -> Option<Vec<u32>> {
        let input = self.inputs.iter().find(|input| input.form == Form::Codes(interner))?;
        computed.arrays[input.expression].as_ref().map(|array| codes.encode(array))
    }

    /// `codes` has those of each interner.
    fn evaluate(
        &mut self,
        computed: Computed,
        mut codes: Vec<Option<Vec<u32>>>,
        interners: &[Interner],
    ) -> Result<Evaluated, DataFusionError> {
        let mut values = self.inputs.iter().map(|_| None).collect::<Vec<_>>();
        for (value, input) in values.iter_mut().zip(&self.inputs) {
            *value = match input.form {
                _ if input.by_code.is_some() => None,
                Form::Codes(interner) => codes[interner].take().map(Values::Codes),
                form => computed.arrays[input.expression].as_ref().map(|array| form.values(array)).transpose()?,
            };
        }
        for at in 0..self.inputs.len() {
            if let Some(by_code) = &mut self.inputs[at].by_code {
                let mask = match &values[by_code.codes] {
                    Some(Values::Codes(codes)) => by_code.mask(codes, &interners[by_code.interner])?,
                    _ => BooleanBuffer::new_unset(computed.times.len()),
                };
                values[at] = Some(Values::Mask(mask));
            }
        }
        Ok(Evaluated { times: computed.times, values: values.into_iter().flatten().collect() })
    }
}

impl Form {
    /// Of a form other than codes.
    fn values(self, array: &ArrayRef) -> Result<Values, DataFusionError> {
        let nulls = array.logical_nulls();
        Ok(match self {
            Self::Codes(_) => return Err(DataFusionError::Internal("an interner gives the codes".to_owned())),
            Self::Numbers => {
                if let Some(value) = numbers::beyond_narrow(array) {
                    return Err(DataFusionError::Execution(format!("{value} does not fit {}", array.data_type())));
                }
                match numbers::numbers(array) {
                    Some(Numbers::Narrow(values)) => Values::Narrow(values, nulls),
                    Some(Numbers::Wide(values)) => Values::Wide(values, nulls),
                    None => return Err(DataFusionError::Internal(format!("{} is not a number", array.data_type()))),
                }
            }
            Self::Floats => Values::Floats(array.as_primitive::<Float64Type>().values().clone(), nulls),
            Self::Truth => Values::Mask(truth(array.as_boolean())),
            Self::Falsehood => {
                let flags = array.as_boolean();
                let falsehood = !flags.values();
                Values::Mask(match flags.nulls() {
                    Some(nulls) => &falsehood & nulls.inner(),
                    None => falsehood,
                })
            }
            Self::Presence => Values::Mask(match nulls {
                Some(nulls) => nulls.into_inner(),
                None => BooleanBuffer::new_set(array.len()),
            }),
        })
    }
}

impl ByCode {
    const UNKNOWN: u8 = 0;
    const FALSE: u8 = 1;
    const TRUE: u8 = 2;

    fn mask(&mut self, codes: &[u32], interner: &Interner) -> Result<BooleanBuffer, DataFusionError> {
        self.answers.resize(interner.domain(), Self::UNKNOWN);
        let mut asked = Vec::new();
        for code in codes {
            let answer = &mut self.answers[*code as usize];
            if *answer == Self::UNKNOWN {
                *answer = Self::FALSE;
                asked.push(*code);
            }
        }
        if !asked.is_empty() {
            let answered = self.ask(&asked, interner);
            if answered.is_err() {
                // The next batch has to ask again.
                asked.iter().for_each(|code| self.answers[*code as usize] = Self::UNKNOWN);
            }
            answered?;
        }
        Ok(BooleanBuffer::collect_bool(codes.len(), |row| self.answers[codes[row] as usize] == Self::TRUE))
    }

    fn ask(&mut self, codes: &[u32], interner: &Interner) -> Result<(), DataFusionError> {
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), vec![interner.decode(codes)])?;
        let answers = truth(self.condition.evaluate(&rows)?.into_array(codes.len())?.as_boolean());
        for (code, answer) in codes.iter().zip(answers.iter()) {
            self.answers[*code as usize] = if answer { Self::TRUE } else { Self::FALSE };
        }
        Ok(())
    }
}

/// The type in which values of `kind` are worked with.
pub(super) fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}

pub(super) fn as_type(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    if array.data_type() == kind { Ok(Arc::clone(array)) } else { cast(array, kind) }
}

fn project(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch, WindowError> {
    let column = |field: &Arc<Field>| {
        let missing =
            || WindowError::MissingColumn { column: field.name().clone(), expected: field.data_type().to_string() };
        let column = rows.column_by_name(field.name()).ok_or_else(missing)?;
        as_type(column, field.data_type()).map_err(|_| missing())
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let rows = RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| expression_error(error.into()))?;
    check_times(schema.field(0).name(), rows.column(0))?;
    Ok(rows)
}

fn check_times(column: &str, times: &ArrayRef) -> Result<(), WindowError> {
    if times.null_count() > 0 {
        return Err(WindowError::NoEventTime { column: column.to_owned(), nulls: times.null_count() });
    }
    let beyond = |time: &&i64| time.unsigned_abs() > EVENT_TIME_MAX_US as u64;
    match times.as_primitive::<TimestampMicrosecondType>().values().iter().find(beyond) {
        Some(value_us) => Err(WindowError::EventTimeRange { column: column.to_owned(), value_us: *value_us }),
        None => Ok(()),
    }
}

fn truth(flags: &BooleanArray) -> BooleanBuffer {
    match flags.nulls() {
        Some(nulls) => flags.values() & nulls.inner(),
        None => flags.values().clone(),
    }
}

fn physical(expr: &Expr, schema: &DFSchema, props: &ExecutionProps) -> Result<Arc<dyn PhysicalExpr>, WindowError> {
    create_physical_expr(expr, schema, props, &PhysicalPlanningContext::default()).map_err(expression_error)
}

fn expression_error(error: DataFusionError) -> WindowError {
    WindowError::Expression { tables: "window tables".to_owned(), cause: error.strip_backtrace() }
}
