use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{Sink, SinkExt};
use pgwire::api::auth::sasl::scram::random_nonce;
use pgwire::api::auth::{
    ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::{ClientInfo, METADATA_USER, PgWireConnectionState, PidSecretKeyGenerator};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::Authentication;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::Registered;
use super::connection::Connection;
use super::failure::{Failure, state};
use super::scram::{Exchange, Refusal};
use crate::serve::sql::passwords::Verifier;

const MECHANISM: &str = "SCRAM-SHA-256";

/// Lets a client in, by its password where there are passwords.
pub(super) struct Startup {
    connection: Arc<Connection>,
    exchange: Mutex<Option<Exchange>>,
}

impl Startup {
    pub fn new(connection: Arc<Connection>) -> Self {
        Self { connection, exchange: Mutex::default() }
    }

    /// What to answer to a message about the password; `true` when the user is who it says.
    fn prove(
        &self,
        client: &impl ClientInfo,
        message: PgWireFrontendMessage,
    ) -> Result<(Authentication, bool), Failure> {
        let user = user(client);
        let PgWireFrontendMessage::PasswordMessageFamily(message) = message else {
            return Err(Failure::fatal(state::PROTOCOL, "a password was expected"));
        };
        let unreadable = |error: PgWireError| Failure::fatal(state::PROTOCOL, error.to_string());
        let refused = |refusal: Refusal| match refusal {
            Refusal::Malformed(why) => Failure::fatal(state::PROTOCOL, format!("malformed SCRAM message: {why}")),
            Refusal::WrongPassword => {
                Failure::fatal(state::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""))
            }
        };
        let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exchange) = exchange.take() {
            let message = message.into_sasl_response().map_err(unreadable)?;
            let proof = exchange.finish(&message.data).map_err(refused)?;
            return Ok((Authentication::SASLFinal(proof.into()), true));
        }
        let message = message.into_sasl_initial_response().map_err(unreadable)?;
        if message.auth_method != MECHANISM {
            return Err(Failure::fatal(
                state::PROTOCOL,
                format!("only {MECHANISM} is spoken, not {}", message.auth_method),
            ));
        }
        let shared = &self.connection.shared.sql;
        let verifier = shared.passwords.of(&user).cloned();
        let verifier = verifier.unwrap_or_else(|| Verifier::of_nobody(&user, &shared.secret));
        let begun = Exchange::begin(&message.data.unwrap_or_default(), verifier, &random_nonce()).map_err(refused)?;
        let challenge = begun.challenge().to_owned();
        *exchange = Some(begun);
        Ok((Authentication::SASLContinue(challenge.into()), false))
    }

    async fn admit<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.connection.admit(&user(client))?;
        let wanted = ["application_name", "search_path", "extra_float_digits", "statement_timeout"];
        for name in wanted {
            if let Some(value) = client.metadata().get(name).cloned() {
                self.connection.with_parameters(|parameters| parameters.set(name, Some(&value)))?;
            }
        }
        let (pid, key) = self.connection.shared.keys.generate(client);
        client.session_extensions().insert(Registered::new(&self.connection, pid, &key));
        client.set_pid_and_secret_key(pid, key);
        finish_authentication(client, self).await
    }
}

fn user(client: &impl ClientInfo) -> String {
    client.metadata().get(METADATA_USER).cloned().unwrap_or_default()
}

impl ServerParameterProvider for Startup {
    fn server_parameters<C: ClientInfo>(&self, _: &C) -> Option<HashMap<String, String>> {
        let parameters = self.connection.parameters();
        let told = parameters.reported().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(told.chain([("session_authorization".to_owned(), parameters.user().to_owned())]).collect())
    }
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let PgWireFrontendMessage::Startup(startup) = &message {
            if self.connection.refused {
                let told = "sorry, too many clients already";
                let failure = Failure::fatal(state::TOO_MANY_CONNECTIONS, told);
                return Err(failure.with_hint("close some, or raise postgres.connections_max").into());
            }
            let from_elsewhere = !client.socket_addr().ip().is_loopback();
            if self.connection.shared.has_certificate() && from_elsewhere && !client.is_secure() {
                let failure =
                    Failure::fatal(state::INVALID_AUTHORIZATION, "connections from other machines are encrypted");
                return Err(failure.with_hint("connect with sslmode=require").into());
            }
            protocol_negotiation(client, startup).await?;
            save_startup_parameters_to_metadata(client, startup);
            if user(client).is_empty() {
                return Err(PgWireError::UserNameRequired);
            }
            if self.connection.shared.sql.passwords.is_empty() {
                return self.admit(client).await;
            }
            client.set_state(PgWireConnectionState::AuthenticationInProgress);
            let asked = Authentication::SASL(vec![MECHANISM.to_owned()]);
            client.send(PgWireBackendMessage::Authentication(asked)).await?;
            return Ok(());
        }
        let (answer, is_proven) = self.prove(client, message)?;
        client.send(PgWireBackendMessage::Authentication(answer)).await?;
        if is_proven { self.admit(client).await } else { Ok(()) }
    }
}
