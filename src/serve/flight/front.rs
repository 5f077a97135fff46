//! Every call by itself: who calls, and what the trait for Flight SQL has no place for.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PollInfo, SchemaResult, Ticket,
};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::asking::State;
use super::service::{Service, encoded, handle_of};
use crate::serve::bounded::Login;
use crate::serve::sql::failure::{Failure, state};

pub(super) struct Front(Service);

type Answer<T> = Result<Response<T>, Status>;

impl Front {
    pub fn new(state: Arc<State>) -> Result<Self, Failure> {
        Service::new(state).map(Self)
    }

    /// The call, with who makes it beside it.
    async fn admitted<T>(&self, mut request: Request<T>) -> Result<Request<T>, Status> {
        let state = self.0.state();
        let who = state.admission.admit(request.metadata()).await.map_err(|failure| state.failed(failure))?;
        if let Some(Some(login)) = request.extensions().get::<Option<Login>>() {
            login.done();
        }
        request.extensions_mut().insert(who);
        Ok(request)
    }

    fn unsupported(&self, told: &str) -> Status {
        self.0.state().failed(Failure::new(state::NOT_SUPPORTED, told))
    }
}

#[tonic::async_trait]
impl FlightService for Front {
    type HandshakeStream = <Service as FlightService>::HandshakeStream;
    type ListFlightsStream = <Service as FlightService>::ListFlightsStream;
    type DoGetStream = <Service as FlightService>::DoGetStream;
    type DoPutStream = <Service as FlightService>::DoPutStream;
    type DoActionStream = <Service as FlightService>::DoActionStream;
    type ListActionsStream = <Service as FlightService>::ListActionsStream;
    type DoExchangeStream = <Service as FlightService>::DoExchangeStream;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        let request = self.admitted(request).await?;
        FlightService::handshake(&self.0, request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        self.admitted(request).await?;
        Ok(Response::new(Box::pin(futures::stream::empty())))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let request = self.admitted(request).await?;
        FlightService::get_flight_info(&self.0, request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        self.admitted(request).await?;
        Err(self
            .unsupported("PollFlightInfo is not supported: GetFlightInfo answers as soon as the question is planned"))
    }

    /// The columns of a question that is not asked yet.
    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let request = self.admitted(request).await?;
        let state = self.0.state();
        let who = Service::who(&request)?;
        let message = Any::decode(request.get_ref().cmd.clone());
        let message = message.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let command = Command::try_from(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let columns = match command {
            Command::CommandStatementQuery(query) => {
                let transaction = handle_of(query.transaction_id.as_deref());
                state.columns(&who, &query.query, transaction).await.map_err(|failure| state.failed(failure))?
            }
            Command::CommandPreparedStatementQuery(query) => {
                let columns = state
                    .prepared
                    .with(&query.prepared_statement_handle, &who.user, |prepared| Arc::clone(&prepared.columns));
                columns.ok_or_else(|| state.failed(super::asking::not_prepared()))?
            }
            _ => {
                let info = FlightService::get_flight_info(&self.0, request).await?;
                return Ok(Response::new(SchemaResult { schema: info.into_inner().schema }));
            }
        };
        Ok(Response::new(SchemaResult { schema: encoded(&columns).map_err(|failure| state.failed(failure))? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let request = self.admitted(request).await?;
        FlightService::do_get(&self.0, request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let request = self.admitted(request).await?;
        FlightService::do_put(&self.0, request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let request = self.admitted(request).await?;
        FlightService::do_action(&self.0, request).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        let request = self.admitted(request).await?;
        FlightService::list_actions(&self.0, request).await
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        self.admitted(request).await?;
        Err(self.unsupported("DoExchange is not supported: questions are asked by GetFlightInfo and DoGet"))
    }
}
