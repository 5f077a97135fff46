//! The commands of Flight SQL.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionEndTransactionRequest, Any, Command, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas,
    CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
    CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandPreparedStatementUpdate,
    CommandStatementIngest, CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult,
    ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor,
    FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::admission::{Who, bearer};
use super::asking::{Cancelled, Planned, State, not_prepared, one_question};
use super::catalog;
use super::rows::EPOCH;
use super::values;
use crate::serve::sql::failure::{Failure, state};

const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
/// Different things that a client may ask for by number or name in one call.
const WANTED_MAX: usize = 1000;

type DoGet = <Service as FlightService>::DoGetStream;
type Answer<T> = Result<Response<T>, Status>;

pub(super) struct Service {
    state: Arc<State>,
    abilities: SqlInfoData,
    types: XdbcTypeInfoData,
}

impl Service {
    pub fn new(state: Arc<State>) -> Result<Self, Failure> {
        Ok(Self { state, abilities: catalog::abilities()?, types: catalog::types()? })
    }

    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Who was let in.
    pub fn who<T>(request: &Request<T>) -> Result<Who, Status> {
        let who = request.extensions().get::<Who>().cloned();
        who.ok_or_else(|| Status::unauthenticated("nobody was let in"))
    }

    fn told<T>(&self, result: Result<T, Failure>) -> Result<T, Status> {
        result.map_err(|failure| self.state.failed(failure))
    }

    /// Where a question that was planned can be fetched.
    fn info(&self, planned: &Planned, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let handle = Bytes::copy_from_slice(&planned.ticket);
        let ticket = TicketStatementQuery { statement_handle: handle }.as_any().encode_to_vec();
        let metadata = serde_json::json!({ EPOCH: planned.epoch }).to_string();
        let info = self.told(described(&planned.columns))?.with_app_metadata(metadata);
        let info = info.with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(ticket)));
        Ok(Response::new(info.with_descriptor(request.into_inner()).with_ordered(true)))
    }

    /// What is asked of the catalog is its own ticket.
    fn itself(
        &self,
        command: &impl ProstMessageExt,
        columns: &Schema,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = Ticket::new(command.as_any().encode_to_vec());
        let info = self.told(described(columns))?.with_endpoint(FlightEndpoint::new().with_ticket(ticket));
        Ok(Response::new(info.with_descriptor(request.into_inner())))
    }

    fn rows(&self, batch: Result<RecordBatch, Failure>) -> Answer<DoGet> {
        let batch = self.told(batch)?;
        let messages = FlightDataEncoderBuilder::new().with_schema(batch.schema());
        let messages = messages.build(futures::stream::once(async { Ok(batch) })).map_err(Status::from);
        Ok(Response::new(Box::pin(messages)))
    }

    fn read_only<T>(&self, sql: Option<&str>) -> Result<T, Status> {
        // What is wrong with the statement itself is said first.
        if let Some(Err(failure)) = sql.map(one_question) {
            return Err(self.state.failed(failure));
        }
        let failure = Failure::new(state::READ_ONLY, "the tables can be read here, not changed");
        let hint = match sql {
            Some(_) => "execute it as a query",
            None => "they are written by `assay run`, `ingest` and `load`",
        };
        Err(self.state.failed(failure.with_hint(hint)))
    }

    fn cancelled(&self, who: &Who, info: &FlightInfo) -> Result<CancelStatus, Failure> {
        let unknown = || Failure::new(state::PROTOCOL, "this is no FlightInfo of a question asked here");
        let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.as_ref()).ok_or_else(unknown)?;
        let message = Any::decode(ticket.ticket.clone()).map_err(|_| unknown())?;
        let Ok(Command::TicketStatementQuery(ticket)) = Command::try_from(message) else { return Err(unknown()) };
        Ok(match self.state.cancel(who, &ticket.statement_handle) {
            Cancelled::Now => CancelStatus::Cancelled,
            Cancelled::NotThere => CancelStatus::NotCancellable,
        })
    }
}

/// A schema as Flight sends it.
pub(super) fn encoded(columns: &Schema) -> Result<Bytes, Failure> {
    let options = IpcWriteOptions::default();
    let message: Result<IpcMessage, _> = SchemaAsIpc::new(columns, &options).try_into();
    message.map(|message| message.0).map_err(|error| Failure::new(state::INTERNAL, error.to_string()))
}

fn described(columns: &Schema) -> Result<FlightInfo, Failure> {
    let mut info = FlightInfo::new();
    info.schema = encoded(columns)?;
    Ok(info)
}

/// Each thing that is wanted makes a pass over all there is.
fn few<T: Ord>(wanted: &mut Vec<T>) -> Result<(), Failure> {
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.len() > WANTED_MAX {
        return Err(Failure::new(
            state::LIMIT_EXCEEDED,
            format!("{WANTED_MAX} things are the most to be asked for at once"),
        ));
    }
    Ok(())
}

/// Some clients send an empty one for none.
pub(super) fn handle_of(handle: Option<&[u8]>) -> Option<&[u8]> {
    handle.filter(|handle| !handle.is_empty())
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    /// Who was let in gets a token, in the header where ADBC and JDBC look for it and as the answer.
    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>> {
        let who = Self::who(&request)?;
        // A token does not make itself live longer.
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).and_then(bearer);
        let token = shown.map_or_else(|| self.state.admission.token(&who.user), str::to_owned);
        let header = format!("Bearer {token}").parse();
        let header = header.map_err(|_| Status::internal("a token that is no header"))?;
        let answer = HandshakeResponse { protocol_version: 0, payload: token.into() };
        let mut response: Response<Pin<Box<dyn Stream<Item = _> + Send>>> =
            Response::new(Box::pin(futures::stream::once(async { Ok(answer) })));
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let who = Self::who(&request)?;
        let transaction = handle_of(query.transaction_id.as_deref());
        let planned = self.told(self.state.plan(&who, &query.query, transaction).await)?;
        self.info(&planned, request)
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let who = Self::who(&request)?;
        let planned = self.told(self.state.plan_prepared(&who, &query.prepared_statement_handle).await)?;
        self.info(&planned, request)
    }

    async fn get_flight_info_catalogs(
        &self,
        command: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &command.into_builder().schema(), request)
    }

    async fn get_flight_info_schemas(
        &self,
        command: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &command.clone().into_builder().schema(), request)
    }

    async fn get_flight_info_tables(
        &self,
        command: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &command.clone().into_builder().schema(), request)
    }

    async fn get_flight_info_table_types(
        &self,
        command: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &command.into_builder().schema(), request)
    }

    async fn get_flight_info_sql_info(
        &self,
        command: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &self.abilities.schema(), request)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        command: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &self.types.schema(), request)
    }

    async fn get_flight_info_primary_keys(
        &self,
        command: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &catalog::primary_keys().schema(), request)
    }

    async fn get_flight_info_exported_keys(
        &self,
        command: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &catalog::foreign_keys().schema(), request)
    }

    async fn get_flight_info_imported_keys(
        &self,
        command: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &catalog::foreign_keys().schema(), request)
    }

    async fn get_flight_info_cross_reference(
        &self,
        command: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        self.itself(&command, &catalog::foreign_keys().schema(), request)
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Answer<DoGet> {
        let who = Self::who(&request)?;
        let rows = self.told(self.state.fetch(&who, &ticket.statement_handle))?;
        let state = Arc::clone(&self.state);
        Ok(Response::new(Box::pin(rows.map_err(move |failure| state.failed(failure)))))
    }

    async fn do_get_catalogs(&self, command: CommandGetCatalogs, _: Request<Ticket>) -> Answer<DoGet> {
        self.rows(catalog::catalogs(command))
    }

    async fn do_get_schemas(&self, command: CommandGetDbSchemas, _: Request<Ticket>) -> Answer<DoGet> {
        self.rows(catalog::layers(command))
    }

    async fn do_get_tables(&self, mut command: CommandGetTables, request: Request<Ticket>) -> Answer<DoGet> {
        let who = Self::who(&request)?;
        let _place = self.told(self.state.place())?;
        self.told(few(&mut command.table_types))?;
        let state = Arc::clone(&self.state);
        let listed = self.state.timely(async move {
            let tables = state.tables(&who, None, None).await?;
            catalog::tables(command, &tables).await
        });
        self.rows(listed.await)
    }

    async fn do_get_table_types(&self, command: CommandGetTableTypes, _: Request<Ticket>) -> Answer<DoGet> {
        self.rows(catalog::table_types(command))
    }

    async fn do_get_sql_info(&self, mut command: CommandGetSqlInfo, _: Request<Ticket>) -> Answer<DoGet> {
        self.told(few(&mut command.info))?;
        self.rows(command.into_builder(&self.abilities).build().map_err(catalog::internal))
    }

    async fn do_get_xdbc_type_info(&self, command: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> Answer<DoGet> {
        self.rows(command.into_builder(&self.types).build().map_err(catalog::internal))
    }

    async fn do_get_primary_keys(&self, _: CommandGetPrimaryKeys, _: Request<Ticket>) -> Answer<DoGet> {
        self.rows(Ok(catalog::primary_keys()))
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, _: Request<Ticket>) -> Answer<DoGet> {
        self.rows(Ok(catalog::foreign_keys()))
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, _: Request<Ticket>) -> Answer<DoGet> {
        self.rows(Ok(catalog::foreign_keys()))
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, _: Request<Ticket>) -> Answer<DoGet> {
        self.rows(Ok(catalog::foreign_keys()))
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.read_only(Some(&command.query))
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.read_only(None)
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.read_only(Some("SELECT"))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let who = Self::who(&request)?;
        let _place = self.told(self.state.place())?;
        let is_there = self.state.prepared.with(&query.prepared_statement_handle, &who.user, |_| ()).is_some();
        self.told(if is_there { Ok(()) } else { Err(not_prepared()) })?;
        let row = self.told(values::row(request.into_inner()).await)?;
        self.told(self.state.bind(&who, &query.prepared_statement_handle, row))?;
        // JDBC's driver takes what stands here for the handle, also when nothing does.
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let who = Self::who(&request)?;
        let transaction = handle_of(query.transaction_id.as_deref());
        let (handle, places, columns) = self.told(self.state.prepare(&who, &query.query, transaction).await)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: Bytes::copy_from_slice(&handle),
            dataset_schema: self.told(encoded(&columns))?,
            parameter_schema: self.told(encoded(&places.schema()))?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let who = Self::who(&request)?;
        // One that was forgotten is as good as closed.
        self.state.prepared.take(&query.prepared_statement_handle, &who.user);
        Ok(())
    }

    /// The epoch is that of the first question.
    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        request: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        let who = Self::who(&request)?;
        let handle = self.state.transactions.keep(&who.user, None);
        Ok(ActionBeginTransactionResult { transaction_id: Bytes::copy_from_slice(&handle) })
    }

    async fn do_action_end_transaction(
        &self,
        query: ActionEndTransactionRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let who = Self::who(&request)?;
        self.state.transactions.take(&query.transaction_id, &who.user);
        Ok(())
    }

    async fn do_action_begin_savepoint(
        &self,
        _: ActionBeginSavepointRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        Err(self.state.failed(Failure::new(state::NOT_SUPPORTED, "there are no savepoints: nothing can be changed")))
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let who = Self::who(&request)?;
        let info = FlightInfo::decode(query.info).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let status = self.told(self.cancelled(&who, &info))?;
        Ok(ActionCancelQueryResult { result: status as i32 })
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        let description =
            "Stops a question.\nRequest Message: CancelFlightInfoRequest\nResponse Message: CancelFlightInfoResult";
        Some(vec![Ok(ActionType { r#type: CANCEL_FLIGHT_INFO.to_owned(), description: description.to_owned() })])
    }

    async fn do_action_fallback(&self, request: Request<Action>) -> Answer<<Self as FlightService>::DoActionStream> {
        let action = request.get_ref();
        if action.r#type != CANCEL_FLIGHT_INFO {
            // Drivers try some, such as CloseSession, and go on without: no error to be counted.
            return Err(Status::unimplemented(format!("there is no action `{}`", action.r#type)));
        }
        let who = Self::who(&request)?;
        let wanted = CancelFlightInfoRequest::decode(action.body.clone());
        let info = wanted.map_err(|error| Status::invalid_argument(error.to_string()))?.info.unwrap_or_default();
        let result = CancelFlightInfoResult::new(self.told(self.cancelled(&who, &info))?);
        let answer = arrow_flight::Result::new(result.encode_to_vec());
        Ok(Response::new(Box::pin(futures::stream::once(async { Ok(answer) }))))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
