//! The tables that a user may read, as of one epoch, and the plans of questions about them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider,
};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::TableType;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables, setup_pg_catalog};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::concessions::conceded;
use super::failure::{Failure, state};
use super::functions;
use super::information::InformationSchema;
use super::parameters::Parameters;
use super::settings::Role;
use crate::domain::{Layer, TableName};
use crate::lake::Session;
use crate::query::{Names, Sessions, only_read, plan, words};
use crate::refine::References;

/// The catalog, which clients know as the database.
pub(super) const CATALOG: &str = "assay";
const PG_CATALOG: &str = "pg_catalog";
const INFORMATION_SCHEMA: &str = "information_schema";

/// Answers questions for all connections.
pub(super) struct Engine {
    sessions: Sessions,
    /// Functions and settings of every session.
    template: SessionState,
    compatible: PostgresCompatibilityParser,
    statics: Arc<PgCatalogStaticTables>,
    roles: BTreeMap<String, Role>,
    views: Mutex<HashMap<Option<String>, View>>,
}

/// What one role sees. Numbers of tables in `pg_catalog` hold as long as the process lives, whatever epochs come.
#[derive(Clone)]
struct View {
    live: Live,
    pg_catalog: Arc<dyn SchemaProvider>,
    newest: Option<Arc<Tables>>,
}

/// The tables of a role as of one epoch.
pub(super) struct Tables {
    session: Arc<Session>,
    schemas: BTreeMap<&'static str, Arc<MemorySchemaProvider>>,
    catalogs: Arc<dyn CatalogProviderList>,
}

impl Tables {
    /// 0 in a lake without a complete epoch.
    pub fn epoch(&self) -> i64 {
        self.session.record.as_ref().map_or(0, |record| record.epoch)
    }

    /// Whether both are of the same opened epoch.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.session, &other.session)
    }
}

impl Engine {
    /// Reads what never changes; the lake need not be there yet.
    ///
    /// # Errors
    /// When the catalog that comes with the crate cannot be read.
    pub fn new(
        sessions: Sessions,
        references: &Arc<References>,
        roles: BTreeMap<String, Role>,
        threads: usize,
    ) -> Result<Self, DataFusionError> {
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_target_partitions(threads)
            .with_default_catalog_and_schema(CATALOG, Layer::Silver.as_str());
        let template = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(sessions.runtime()))
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(template);
        context.register_catalog(CATALOG, Arc::new(MemoryCatalogProvider::new()));
        setup_pg_catalog(&context, CATALOG, EmptyContextProvider).map_err(|error| *error)?;
        crate::refine::functions::register(&context, references);
        functions::register(&context);
        Ok(Self {
            sessions,
            template: context.state(),
            compatible: PostgresCompatibilityParser::new(),
            statics: Arc::new(PgCatalogStaticTables::try_new()?),
            roles,
            views: Mutex::default(),
        })
    }

    /// The role of a user: `None` reads everything.
    pub fn role_of(&self, user: &str) -> Result<Option<String>, Failure> {
        if self.roles.is_empty() {
            return Ok(None);
        }
        match self.roles.contains_key(user) {
            true => Ok(Some(user.to_owned())),
            false => Err(Failure::fatal(state::INVALID_AUTHORIZATION, format!("role \"{user}\" does not exist"))),
        }
    }

    /// What a role sees, as of an epoch or the newest complete one.
    pub async fn tables(&self, role: Option<&str>, epoch: Option<i64>) -> Result<Arc<Tables>, Failure> {
        let session = self.sessions.at(epoch).await.map_err(|error| Failure::of_lake(&error))?;
        let view = self.view(role).map_err(|error| internal(&error))?;
        if let Some(newest) = &view.newest
            && Arc::ptr_eq(&newest.session, &session)
        {
            return Ok(Arc::clone(newest));
        }
        let tables = Arc::new(self.open(role, session, &view).await?);
        if epoch.is_none() {
            view.live.set(&tables);
            if let Some(held) =
                self.views.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&role.map(str::to_owned))
            {
                held.newest = Some(Arc::clone(&tables));
            }
        }
        Ok(tables)
    }

    fn view(&self, role: Option<&str>) -> Result<View, DataFusionError> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let role = role.map(str::to_owned);
        if let Some(view) = views.get(&role) {
            return Ok(view.clone());
        }
        let live = Live::default();
        let provider = PgCatalogSchemaProvider::try_new(live.clone(), Arc::clone(&self.statics), EmptyContextProvider)?;
        let view = View { live, pg_catalog: Arc::new(provider), newest: None };
        views.insert(role, view.clone());
        Ok(view)
    }

    async fn open(&self, role: Option<&str>, session: Arc<Session>, view: &View) -> Result<Tables, Failure> {
        let role = role.and_then(|name| self.roles.get_key_value(name));
        let mut schemas = BTreeMap::new();
        let source = session.context.catalog(CATALOG);
        for layer in Layer::ALL {
            let schema = Arc::new(MemorySchemaProvider::new());
            let source = source.as_ref().and_then(|catalog| catalog.schema(layer.as_str()));
            for name in source.iter().flat_map(|source| source.table_names()) {
                let name = TableName::new(layer, name);
                if role.is_some_and(|(_, role)| !role.may_read(&name)) {
                    continue;
                }
                let condition = role.and_then(|(_, role)| role.rows.get(&name.to_string()));
                let table = match (condition, &source) {
                    (Some(condition), _) => some_rows(&session.context, &name, condition).await.map(Some),
                    (None, Some(source)) => source.table(&name.name).await,
                    (None, None) => Ok(None),
                };
                let table = table.map_err(|error| {
                    let role = role.map_or("", |(name, _)| name.as_str());
                    let told = format!("{name} cannot be opened for {role}: {}", error.strip_backtrace());
                    Failure::new(state::INTERNAL, told)
                })?;
                if let Some(table) = table {
                    schema.register_table(name.name, table).map_err(|error| internal(&error))?;
                }
            }
            schemas.insert(layer.as_str(), schema);
        }
        let catalog = MemoryCatalogProvider::new();
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        let own = schemas.iter().map(|(name, schema)| (*name, Arc::clone(schema) as Arc<dyn SchemaProvider>));
        let information = InformationSchema::new(Arc::clone(&catalogs) as _, schemas.clone());
        let beside: [(&str, Arc<dyn SchemaProvider>); 2] =
            [(PG_CATALOG, Arc::clone(&view.pg_catalog)), (INFORMATION_SCHEMA, Arc::new(information))];
        for (name, schema) in own.chain(beside) {
            catalog.register_schema(name, schema).map_err(|error| internal(&error))?;
        }
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        Ok(Tables { session, schemas, catalogs })
    }

    /// A session for one statement.
    pub fn context(&self, tables: &Tables, parameters: &Parameters) -> SessionContext {
        let mut config = self
            .template
            .config()
            .clone()
            // Ours is in the catalog.
            .with_information_schema(false)
            .with_default_catalog_and_schema(CATALOG, parameters.default_layer());
        config.options_mut().sql_parser.collect_spans = true;
        let state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_catalog_list(Arc::clone(&tables.catalogs))
            .with_config(config)
            .build();
        let context = SessionContext::new_with_state(state);
        functions::register_session(&context, parameters);
        context
    }

    /// Plans a question. What reads PostgreSQL's own catalog is rewritten first; anything else only when it is no SQL of
    /// ours, so that `assay sql` and this give the same answers.
    pub async fn plan(&self, context: &SessionContext, sql: &str) -> Result<LogicalPlan, DataFusionError> {
        crate::query::check_depth(sql)?;
        let direct =
            async || -> Result<LogicalPlan, DataFusionError> { Ok(plan_of_ours(context, sql).await?.into_parts().1) };
        if asks_catalog(sql) {
            let conceded = conceded(sql);
            return match self.plan_compatible(context, conceded.as_deref().unwrap_or(sql)).await {
                Ok(plan) => Ok(plan),
                Err(error) => direct().await.map_err(|_| error),
            };
        }
        match direct().await {
            Ok(plan) => Ok(plan),
            Err(error) => self.plan_compatible(context, sql).await.map_err(|_| error),
        }
    }

    async fn plan_compatible(&self, context: &SessionContext, sql: &str) -> Result<LogicalPlan, DataFusionError> {
        let statements = self.compatible.parse(sql).map_err(|error| DataFusionError::SQL(Box::new(error), None))?;
        let [statement] = <[_; 1]>::try_from(statements)
            .map_err(|found| DataFusionError::Plan(format!("{} statements where one was expected", found.len())))?;
        let plan = context.state().statement_to_plan(Statement::Statement(Box::new(statement))).await?;
        only_read().verify_plan(&plan)?;
        Ok(plan)
    }

    /// What to say of a question that failed.
    pub async fn explain(
        &self,
        error: &DataFusionError,
        sql: &str,
        context: &SessionContext,
        planning: bool,
    ) -> Failure {
        let names = Names::load(context).await;
        let failure = Failure::of_engine(error, sql, &names, planning);
        if failure.code() == state::UNDEFINED_TABLE
            && let Some(denied) = self.denied(failure.message()).await
        {
            return denied;
        }
        failure
    }

    /// A table that is there and not granted is told apart from one that is not there.
    async fn denied(&self, message: &str) -> Option<Failure> {
        if self.roles.is_empty() {
            return None;
        }
        let name = message.split('`').nth(1)?;
        let session = self.sessions.at(None).await.ok()?;
        let layered = if name.contains('.') { name.to_owned() } else { format!("{}.{name}", Layer::Silver.as_str()) };
        let is_there = session.context.table_exist(TableReference::parse_str(&layered)).ok()?;
        is_there.then(|| Failure::new(state::PERMISSION, format!("permission denied for table {name}")))
    }
}

async fn plan_of_ours(context: &SessionContext, sql: &str) -> Result<datafusion::prelude::DataFrame, DataFusionError> {
    let frame = plan(context, sql).await;
    // `plan` switches the engine's own on; ours knows the types by PostgreSQL's names.
    context.state_ref().write().config_mut().options_mut().catalog.information_schema = false;
    frame
}

async fn some_rows(
    context: &SessionContext,
    name: &TableName,
    condition: &str,
) -> Result<Arc<dyn datafusion::catalog::TableProvider>, DataFusionError> {
    let frame = context.table(TableReference::partial(name.layer.as_str(), name.name.as_str())).await?;
    let condition = frame.parse_sql_expr(condition)?;
    Ok(frame.filter(condition)?.into_view())
}

/// Whether a question is about the catalog of PostgreSQL, or in words that only it has.
fn asks_catalog(sql: &str) -> bool {
    let known = |word: &str| {
        let word = word.to_ascii_lowercase();
        word.starts_with("pg_") || word.starts_with("reg") || matches!(word.as_str(), "information_schema" | "collate")
    };
    sql.contains("pg_") || words(sql).iter().any(|(word, _)| known(word))
}

fn internal(error: &DataFusionError) -> Failure {
    Failure::new(state::INTERNAL, error.strip_backtrace())
}

/// The newest tables of a role, as `pg_catalog` lists them.
#[derive(Clone, Default)]
struct Live(Arc<RwLock<BTreeMap<&'static str, Arc<MemorySchemaProvider>>>>);

impl Live {
    fn set(&self, tables: &Tables) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tables.schemas.clone();
    }

    fn schema(&self, name: &str) -> Option<Arc<MemorySchemaProvider>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

#[async_trait]
impl CatalogInfo for Live {
    async fn catalog_names(&self) -> Result<Vec<String>, DataFusionError> {
        Ok(vec![CATALOG.to_owned()])
    }

    async fn schema_names(&self, _: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        let layers = Layer::ALL.iter().map(|layer| layer.as_str());
        Ok(Some(layers.chain([PG_CATALOG, INFORMATION_SCHEMA]).map(str::to_owned).collect()))
    }

    async fn table_names(&self, _: &str, schema: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        let mut names = self.schema(schema).map(|schema| schema.table_names()).unwrap_or_default();
        names.sort_unstable();
        Ok(Some(names))
    }

    async fn table_schema(&self, _: &str, schema: &str, table: &str) -> Result<Option<SchemaRef>, DataFusionError> {
        let Some(schema) = self.schema(schema) else { return Ok(None) };
        Ok(schema.table(table).await?.map(|table| table.schema()))
    }

    async fn table_type(&self, _: &str, schema: &str, table: &str) -> Result<Option<TableType>, DataFusionError> {
        // Restated and filtered tables are views inside; for a reader they are tables like the others.
        let is_there = self.schema(schema).is_some_and(|schema| schema.table_exist(table));
        Ok(is_there.then_some(TableType::Base))
    }
}
