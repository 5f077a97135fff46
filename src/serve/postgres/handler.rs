use std::fmt::Debug;
use std::ops::DerefMut;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{Sink, SinkExt, StreamExt};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{
    ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_query_response, send_ready_for_query,
};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, ErrorHandler, PgWireConnectionState, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{Execute, PortalSuspended};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::ParameterStatus;

use super::bind::{self, Parameter};
use super::connection::Connection;
use super::failure::{Failure, state};
use super::rows::Columns;
use crate::serve::sql::command::Command;
use crate::serve::sql::engine::Asked;
use crate::serve::sql::measured::{Measured, Protocol};
use crate::serve::sql::running::Wait;
use crate::serve::sql::statements;

/// Statements of one connection.
pub(super) struct Handler(pub Arc<Connection>);

/// A statement that was parsed.
#[derive(Clone)]
pub(super) enum Prepared {
    Command(Command),
    Question(Arc<Question>),
}

pub(super) struct Question {
    sql: String,
    asked: Asked,
    parameters: Vec<Parameter>,
    /// What the client is told of the columns.
    columns: Columns,
}

impl Handler {
    /// What is about the session rather than the lake.
    async fn command<C>(&self, client: &mut C, command: &Command) -> Result<Response, PgWireError>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let done = |tag: &str| Ok(Response::Execution(Tag::new(tag)));
        match command {
            Command::Begin => {
                self.0.begin();
                client.set_transaction_status(client.transaction_status().to_in_transaction_state());
                Ok(Response::TransactionStart(Tag::new("BEGIN")))
            }
            Command::Commit | Command::Rollback => {
                let failed = client.transaction_status() == TransactionStatus::Error;
                self.0.end();
                client.set_transaction_status(TransactionStatus::Idle);
                let tag = if *command == Command::Commit && !failed { "COMMIT" } else { "ROLLBACK" };
                Ok(Response::TransactionEnd(Tag::new(tag)))
            }
            Command::Savepoint(tag) => {
                if client.transaction_status() == TransactionStatus::Idle {
                    let told = format!("{tag} can only be used in transaction blocks");
                    return Err(Failure::new(state::NO_ACTIVE_TRANSACTION, told).into());
                }
                done(tag)
            }
            Command::RollbackTo => {
                if client.transaction_status() == TransactionStatus::Idle {
                    let told = "ROLLBACK TO SAVEPOINT can only be used in transaction blocks";
                    return Err(Failure::new(state::NO_ACTIVE_TRANSACTION, told).into());
                }
                client.set_transaction_status(TransactionStatus::Transaction);
                done("ROLLBACK")
            }
            Command::Set { name, value } => {
                let told = self.0.with_parameters(|parameters| parameters.set(name, value.as_deref()))?;
                if let Some((name, value)) = told {
                    client.feed(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value))).await?;
                }
                done("SET")
            }
            Command::ResetAll => {
                self.0.reset();
                done("RESET")
            }
            Command::Nothing(tag) => done(tag),
            Command::Show(name) => {
                let value = self.0.parameters().get(name)?.to_owned();
                Ok(Response::Query(shown(&[name], &[vec![value]])?))
            }
            Command::ShowAll => {
                let parameters = self.0.parameters();
                let rows = parameters.all().map(|(name, value)| vec![name.to_owned(), value.to_owned(), String::new()]);
                Ok(Response::Query(shown(&["name", "setting", "description"], &rows.collect::<Vec<_>>())?))
            }
            Command::Deallocate(name) => {
                if let Some(name) = name {
                    client.portal_store().rm_statement(name);
                }
                done("DEALLOCATE")
            }
            Command::DiscardAll => {
                if client.transaction_status() != TransactionStatus::Idle {
                    let told = "DISCARD ALL cannot run inside a transaction block";
                    return Err(Failure::new("25001", told).into());
                }
                client.portal_store().clear_portals();
                self.0.reset();
                done("DISCARD ALL")
            }
            Command::Query => Err(Failure::new(state::INTERNAL, "a question was taken for a command").into()),
        }
    }

    async fn statement<C>(&self, client: &mut C, statement: &str) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let command = Command::parse(statement)?;
        check_transaction(client, &command)?;
        if command != Command::Query {
            return self.command(client, &command).await;
        }
        let mut wait = self.0.wait();
        let mut measured = Measured::begin(&self.0.shared.sql, Protocol::Postgres);
        let asked = match self.0.plan(statement, &mut wait).await {
            Ok(asked) => asked,
            Err(failure) => {
                measured.failed(&failure);
                return Err(failure.into());
            }
        };
        let plan = asked.plan.clone();
        let rows = self.0.run(asked, plan, &Format::UnifiedText, wait, measured).await?;
        Ok(Response::Query(rows))
    }
}

fn check_transaction(client: &impl ClientInfo, command: &Command) -> Result<(), Failure> {
    let ends = matches!(command, Command::Commit | Command::Rollback | Command::RollbackTo);
    if client.transaction_status() == TransactionStatus::Error && !ends {
        return Err(Connection::failed_transaction());
    }
    Ok(())
}

/// A table of texts.
fn shown(names: &[&str], rows: &[Vec<String>]) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(text_fields(names));
    let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
    let mut encoded = Vec::new();
    for row in rows {
        for value in row {
            encoder.encode_field(&Some(value.as_str()))?;
        }
        encoded.push(Ok(encoder.take_row()));
    }
    Ok(QueryResponse::new(fields, futures::stream::iter(encoded)))
}

fn text_fields(names: &[&str]) -> Vec<FieldInfo> {
    names.iter().map(|name| FieldInfo::new((*name).to_owned(), None, None, Type::TEXT, FieldFormat::Text)).collect()
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let _busy = self.0.busy();
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        // The crate would set the status of the transaction by the answers; a rollback to a savepoint is none of those.
        for answer in SimpleQueryHandler::do_query(self, client, &query.query).await? {
            match answer {
                Response::Query(rows) => send_query_response(client, rows, true).await?,
                Response::Execution(tag) | Response::TransactionStart(tag) | Response::TransactionEnd(tag) => {
                    send_execution_response(client, tag).await?;
                }
                Response::Error(info) => client.feed(PgWireBackendMessage::ErrorResponse((*info).into())).await?,
                _ => client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?,
            }
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        let status = client.transaction_status();
        send_ready_for_query(client, status).await
    }

    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let parts = statements(query)?;
        if parts.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        // Several at once are one transaction, and read one epoch.
        if parts.len() > 1 {
            self.0.begin();
        }
        let mut answers = Vec::new();
        for statement in &parts {
            match self.statement(client, statement).await {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    let info: ErrorInfo = error.into();
                    self.0.shared.sql_error(&info.code);
                    client.set_transaction_status(client.transaction_status().to_error_state());
                    answers.push(Response::Error(Box::new(info)));
                    break;
                }
            }
        }
        if client.transaction_status() == TransactionStatus::Idle {
            self.0.end();
        }
        Ok(answers)
    }
}

#[async_trait]
impl QueryParser for Handler {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let parts = statements(sql)?;
        let statement = match parts.as_slice() {
            [] => return Ok(None),
            [statement] => statement,
            _ => {
                return Err(
                    Failure::new(state::SYNTAX, "cannot insert multiple commands into a prepared statement").into()
                );
            }
        };
        let command = Command::parse(statement)?;
        check_transaction(client, &command)?;
        if command != Command::Query {
            return Ok(Some(Prepared::Command(command)));
        }
        let _busy = self.0.busy();
        let mut wait = self.0.wait();
        let asked = self.0.plan(statement, &mut wait).await?;
        let parameters = bind::parameters(&asked.plan, types)?;
        let typed = asked.plan.clone().replace_params_with_values(&bind::placeholders(&parameters)?);
        let typed = typed.map_err(|error| Failure::new(state::WRONG, error.strip_backtrace()))?;
        let columns = Columns::of(typed.schema().as_arrow(), &Format::UnifiedText)?;
        let question = Question { sql: statement.clone(), asked, parameters, columns };
        Ok(Some(Prepared::Question(Arc::new(question))))
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(match statement {
            Prepared::Command(_) => Vec::new(),
            Prepared::Question(question) => {
                question.parameters.iter().map(|parameter| parameter.kind.clone()).collect()
            }
        })
    }

    fn get_result_schema(&self, statement: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        Ok(match statement {
            Prepared::Command(Command::Show(name)) => text_fields(&[name]),
            Prepared::Command(Command::ShowAll) => text_fields(&["name", "setting", "description"]),
            Prepared::Command(_) => Vec::new(),
            Prepared::Question(question) => match format {
                None => question.columns.fields().to_vec(),
                Some(format) => question.columns.with_format(format)?.fields().to_vec(),
            },
        })
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Prepared;
    type QueryParser = Self;

    fn query_parser(&self) -> Arc<Self> {
        Arc::new(Self(Arc::clone(&self.0)))
    }

    /// Rows go out as they come: what the crate does by itself collects them first.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let _busy = self.0.busy();
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                return Ok(());
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        let most = usize::try_from(message.max_rows).unwrap_or(0);
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            match ExtendedQueryHandler::do_query(self, client, &portal, most).await? {
                Response::Query(rows) => *state = PortalExecutionState::Suspended(rows),
                Response::Execution(tag) | Response::TransactionStart(tag) | Response::TransactionEnd(tag) => {
                    *state = PortalExecutionState::Finished;
                    return send_execution_response(client, tag).await;
                }
                _ => return Ok(()),
            }
        }
        let mut sent = 0;
        let mut is_over = true;
        if let PortalExecutionState::Suspended(rows) = state.deref_mut() {
            is_over = false;
            while most == 0 || sent < most {
                let Some(row) = rows.data_rows().next().await else {
                    is_over = true;
                    break;
                };
                client.feed(PgWireBackendMessage::DataRow(row?)).await?;
                sent += 1;
            }
        }
        if !is_over {
            client.feed(PgWireBackendMessage::PortalSuspended(PortalSuspended::new())).await?;
            return Ok(());
        }
        *state = PortalExecutionState::Finished;
        send_execution_response(client, Tag::new("SELECT").with_rows(sent)).await
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let question = match &portal.statement.statement {
            Prepared::Command(command) => {
                check_transaction(client, command)?;
                return self.command(client, command).await;
            }
            Prepared::Question(question) => question,
        };
        check_transaction(client, &Command::Query)?;
        let mut wait = self.0.wait();
        let mut measured = Measured::begin(&self.0.shared.sql, Protocol::Postgres);
        let planned = self.bound(question, portal, &mut wait).await;
        let (asked, plan) = planned.inspect_err(|failure| measured.failed(failure))?;
        let rows = self.0.run(asked, plan, &portal.result_column_format, wait, measured).await?;
        Ok(Response::Query(rows))
    }
}

impl Handler {
    /// The question as of now, with its values.
    async fn bound(
        &self,
        question: &Question,
        portal: &Portal<Prepared>,
        wait: &mut Wait,
    ) -> Result<(Asked, datafusion::logical_expr::LogicalPlan), Failure> {
        let asked = self.0.refresh(&question.sql, &question.asked, wait).await?;
        let values = bind::values(portal, &question.parameters)?;
        let plan = asked.plan.clone().replace_params_with_values(&values);
        let plan = plan.map_err(|error| Failure::new(state::WRONG, error.strip_backtrace()))?;
        if !Columns::of(plan.schema().as_arrow(), &Format::UnifiedText)?.is_same(&question.columns) {
            let told = Failure::new(state::CHANGED_RESULT, "cached plan must not change result type");
            return Err(
                told.with_hint("the table has other columns since the statement was prepared: prepare it again")
            );
        }
        Ok((asked, plan))
    }
}

/// Counts what clients are told.
pub(super) struct Errors(pub Arc<Connection>);

impl ErrorHandler for Errors {
    fn on_error<C: ClientInfo>(&self, _: &C, error: &mut PgWireError) {
        let told = std::mem::replace(error, PgWireError::QueryCanceled);
        let info: ErrorInfo = told.into();
        self.0.shared.sql_error(&info.code);
        *error = PgWireError::UserError(Box::new(info));
    }
}
