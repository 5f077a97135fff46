use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assay::contract::Contract;
use assay::lake::LakeError;
use assay::model::registry::ModelName;
use assay::online::OnlineReader;
use assay::pipeline::{Compiled, Plan};
use assay::scoring::{
    Chosen, Followed, FollowedLake, Keeper, LakeFollower, ModelFollower, Models, ReceiptPlace, Role, Scorer,
    ScoringPipeline, Served, Shadow, SharedFeatures, Split,
};
use assay::serve::sql::Passwords;
use assay::serve::{ApiKeys, Predict, PredictParts, Readiness};
use assay::telemetry::traces::EpochTraces;
use clap::Args;

use crate::app::{App, nap, usage};
use crate::console::ConsoleHost;
use crate::exit::Exit;
use crate::models::ModelsFolder;
use crate::run::Server;
use crate::sql_server::SqlServer;
use crate::ui::Look;

/// Score transactions by HTTP with the champion of a model (and a challenger for a share of users) and what a lake knows, and
/// answer SQL, until it is stopped.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Serve here
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// Serve the same over a Unix domain socket here, to clients on this machine
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// Answer clients of PostgreSQL here: psql, drivers, dashboards
    #[arg(long, value_name = "HOST:PORT")]
    pub postgres: Option<String>,
    /// Answer clients of Arrow Flight SQL here: ADBC, JDBC
    #[arg(long, value_name = "HOST:PORT")]
    pub flight: Option<String>,
    /// The model whose champion answers [default: that of the settings, fraud]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    #[command(flatten)]
    pub folder: ModelsFolder,
    /// Read an API key from stdin, print the line for serve.api_key_file, and end
    #[arg(long)]
    pub hash_key: bool,
    /// Read a password from stdin, print the line for postgres.password_file without its user, and end
    #[arg(long)]
    pub hash_password: bool,
}

/// The lake is looked at this often at most: a look reads its log.
const LAKE_EVERY: Duration = Duration::from_secs(1);

pub fn run(args: ServeArgs, mut app: App) -> anyhow::Result<Exit> {
    if args.hash_key {
        return hash_key();
    }
    if args.hash_password {
        return hash_password();
    }
    if let Some(address) = &args.http {
        app.settings.serve.address.clone_from(address);
    }
    if let Some(socket) = &args.socket {
        app.settings.serve.socket.clone_from(socket);
    }
    if let Some(address) = &args.postgres {
        app.settings.postgres.address.clone_from(address);
    }
    if let Some(address) = &args.flight {
        app.settings.flight.address.clone_from(address);
    }
    if let Some(model) = &args.model {
        app.settings.scoring.model.clone_from(model);
    }
    if let Some(folder) = &args.folder.models {
        app.settings.model.folder.clone_from(folder);
    }
    app.settings.check()?;
    app.stop_on_signals();
    let readiness = Readiness::awaiting(["model", "features"]);
    let scoring = Scoring::start(&app, Some(readiness.clone()))?;
    let console = ConsoleHost::start(&app, "serve")?;
    let has_console = console.is_some();
    let server = Server::start(&app, readiness, Some(scoring.predict()), console)?;
    let sql = SqlServer::start(&app)?;
    let look = Look::of_stderr();
    for way in sql.iter().flat_map(SqlServer::ways) {
        eprintln!("{}", look.fit(&format!("{way} answers too")));
    }
    if has_console {
        eprintln!("{}", look.fit(&format!("{}/ is the console", server.url())));
    }
    let socket = &app.settings.serve.socket;
    if !socket.as_os_str().is_empty() {
        eprintln!("{}", look.fit(&format!("the socket {} answers too", socket.display())));
    }
    eprintln!("{}", look.fit(&format!("{}/docs says how to call it; Ctrl-C ends it", server.url())));
    while !app.stop.load(Ordering::Relaxed) {
        nap(Duration::from_millis(50));
    }
    drop(sql);
    drop(server);
    Ok(Exit::Done)
}

fn hash_password() -> anyhow::Result<Exit> {
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password).map_err(usage)?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(usage("there is no password on stdin: printf %s \"$PASSWORD\" | assay serve --hash-password"));
    }
    say!("{}", Passwords::hash(password))?;
    Ok(Exit::Done)
}

fn hash_key() -> anyhow::Result<Exit> {
    let mut key = String::new();
    std::io::stdin().read_to_string(&mut key).map_err(usage)?;
    if key.trim().is_empty() {
        return Err(usage("there is no key on stdin: printf %s \"$KEY\" | assay serve --hash-key"));
    }
    say!("blake3:{}", ApiKeys::hash(&key))?;
    Ok(Exit::Done)
}

/// What scores requests, and the threads that follow the model and the lake; ends when it is dropped.
pub struct Scoring {
    predict: Predict,
    _models: ModelFollower,
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Hands its last receipts over before the keeper ends.
    _shadow: Option<Shadow>,
    /// Stores what it took when it is dropped.
    _keeper: Option<Keeper>,
}

impl Scoring {
    /// Checks everything that the user wrote, and begins to follow. `readiness` hears of `model` and `features`.
    pub fn start(app: &App, readiness: Option<Readiness>) -> anyhow::Result<Self> {
        let settings = &app.settings;
        let keys = ApiKeys::load(&settings.serve).map_err(usage)?;
        keys.check_address(&settings.serve.address).map_err(usage)?;
        let contract = app.contract()?;
        // Where the lake cannot be asked yet, the champion may need whatever is declared.
        let plan = match app.open_lake(false) {
            Ok(lake) => app.plan_of(&contract, &lake)?,
            Err(_) => app.plan(&contract)?,
        };
        Compiled::new(&plan, &app.stage_settings(), [0, 0])?;
        let pipeline = Arc::new(ScoringPipeline::compile(&plan, &contract).map_err(usage)?);
        Split::of(&settings.scoring, &pipeline).map_err(usage)?;
        let past = Past::of(app, &contract, &plan)?;
        let registry = app.models()?;
        let models = Models::new(registry, ModelName::parse(&settings.scoring.model)?);
        let models = models.with_challenger(settings.scoring.trial());
        let features = past.features();
        let clock = Arc::clone(&app.clock);
        let scorer = Scorer::new(pipeline, features, Arc::new(models), settings.scoring.clone(), clock);
        let scorer = Arc::new(scorer.traced(app.traces.clone()));
        let keeper = settings.scoring.receipts.then(|| {
            let place = ReceiptPlace {
                lake: settings.lake.clone(),
                pipeline: settings.pipeline.clone(),
                every: Duration::from_millis(settings.scoring.receipts_every_ms),
            };
            Keeper::start(place, &scorer, Arc::clone(&app.metrics), app.handle.clone())
        });
        let keeper = keeper.transpose()?;
        let receipts = keeper.as_ref().map(Keeper::receipts);
        let shadow =
            settings.scoring.shadow.then(|| Shadow::start(&scorer, receipts.clone(), Arc::clone(&app.metrics)));
        let shadow = shadow.transpose()?;
        let shadows = shadow.as_ref().map(Shadow::shadows);
        let metrics = Arc::clone(&app.metrics);
        let parts = PredictParts { scorer: Arc::clone(&scorer), receipts, shadows, keys, metrics };
        let predict = Predict::new(parts, &settings.serve);
        let done = Arc::new(AtomicBool::new(false));
        let every = Duration::from_millis(settings.scoring.follow_ms);
        let (models, pipeline) = (Arc::clone(&scorer.models), Arc::clone(&scorer.pipeline));
        let told = tell_model(Arc::clone(&scorer), readiness.clone(), Arc::clone(&app.metrics));
        let models = ModelFollower::start(models, pipeline, every, Arc::clone(&app.metrics), told)?;
        let following = Following {
            scorer,
            past,
            readiness,
            metrics: Arc::clone(&app.metrics),
            every,
            done: Arc::clone(&done),
            awaits_lake: false,
            answers: None,
        };
        let thread = std::thread::Builder::new().name("assay-features".to_owned()).spawn(move || following.run())?;
        Ok(Self { predict, _models: models, done, thread: Some(thread), _shadow: shadow, _keeper: keeper })
    }

    pub fn predict(&self) -> Predict {
        self.predict.clone()
    }
}

/// Where what is known of the past comes from.
enum Past {
    Memory(Arc<LakeFollower>),
    Redis(Arc<OnlineReader>),
}

impl Past {
    fn of(app: &App, contract: &Contract, plan: &Plan) -> anyhow::Result<Self> {
        let settings = &app.settings;
        if !settings.online.is_on() {
            return Ok(Self::Memory(Arc::new(follower(app, contract, plan)?)));
        }
        let lake = (&settings.lake, settings.pipeline.as_str(), plan);
        let parts = (app.handle.clone(), Arc::clone(&app.clock), Arc::clone(&app.metrics));
        Ok(Self::Redis(Arc::new(OnlineReader::new(lake, &settings.online, parts).map_err(usage)?)))
    }

    fn features(&self) -> SharedFeatures {
        match self {
            Self::Memory(follower) => Arc::clone(follower) as _,
            Self::Redis(reader) => Arc::clone(reader) as _,
        }
    }

    fn lake_key(&self) -> Option<[u64; 2]> {
        match self {
            Self::Memory(follower) => follower.lake_key(),
            Self::Redis(reader) => reader.lake_key(),
        }
    }

    /// How often it is looked at: a look at the lake reads its log.
    fn every(&self, follow: Duration) -> Duration {
        if let Self::Memory(_) = self { LAKE_EVERY } else { follow }
    }
}

/// What follows the lake, or holds an epoch of it.
pub fn follower(app: &App, contract: &Contract, plan: &Plan) -> anyhow::Result<LakeFollower> {
    let settings = &app.settings;
    let followed = FollowedLake {
        place: &settings.lake,
        pipeline: &settings.pipeline,
        plan,
        evolved: &contract.evolved_columns(),
        hash_key: uuid::Uuid::new_v4().into_bytes(),
    };
    let clock = Arc::clone(&app.clock);
    LakeFollower::new(followed, &settings.refine, &settings.scoring, app.handle.clone(), clock).map_err(usage)
}

impl Drop for Scoring {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tells which version has a role, how many users it has, and whether there is a champion.
fn tell_model(
    scorer: Arc<Scorer>,
    readiness: Option<Readiness>,
    metrics: Arc<assay::telemetry::Metrics>,
) -> impl FnMut(&Chosen) + Send + 'static {
    move |chosen| {
        let roles = metrics.roles();
        let challenger = chosen.challenger.as_ref();
        let of = |role: Role, served: Option<&Arc<Served>>| {
            roles.set_version(role.as_str(), served.map(|served| [served.name.as_str(), served.version.as_str()]));
        };
        of(Role::Champion, chosen.champion.as_ref());
        of(Role::Challenger, challenger.map(|challenger| &challenger.served));
        let is_on = challenger.is_some_and(|challenger| challenger.trial.is_on());
        roles.set_challenger_share(if is_on { scorer.settings.challenger_share } else { 0.0 });
        if let Some(readiness) = &readiness {
            readiness.set("model", chosen.problem.clone().map_or(Ok(()), Err));
        }
    }
}

struct Following {
    scorer: Arc<Scorer>,
    past: Past,
    readiness: Option<Readiness>,
    metrics: Arc<assay::telemetry::Metrics>,
    every: Duration,
    done: Arc<AtomicBool>,
    /// Whether it was said already that there is no lake.
    awaits_lake: bool,
    /// Whether Redis does, since it did for the first time.
    answers: Option<bool>,
}

impl Following {
    fn run(mut self) {
        let lake_every = self.past.every(self.every);
        let mut since_lake = lake_every;
        while !self.done.load(Ordering::Relaxed) {
            if since_lake >= lake_every {
                since_lake = Duration::ZERO;
                match &self.past {
                    Past::Memory(follower) => self.look_at_lake(&Arc::clone(follower)),
                    Past::Redis(reader) => self.look_at_redis(&Arc::clone(reader)),
                }
                if let (true, Some(key)) = (self.scorer.traces.is_on(), self.past.lake_key()) {
                    self.scorer.traces.follow_lake(EpochTraces::of_lake(key));
                }
            }
            since_lake += self.every;
            nap(self.every);
        }
    }

    fn look_at_redis(&mut self, reader: &OnlineReader) {
        match reader.follow() {
            Ok(epoch) => {
                self.answers = Some(true);
                self.metrics.set_features_epoch(epoch);
                self.tell("features", Ok(()));
            }
            Err(error) => match self.answers {
                None => self.tell("features", Err(error.to_string())),
                // All servers share it: while the rules decide, none of them is to be taken out of turn.
                Some(was) => {
                    if was {
                        tracing::warn!(%error, "Redis does not answer; the rules decide");
                    }
                    self.answers = Some(false);
                }
            },
        }
    }

    fn look_at_lake(&mut self, follower: &LakeFollower) {
        match follower.follow() {
            Ok(Followed::Unchanged) => self.tell("features", Ok(())),
            Ok(Followed::Empty) => self.tell("features", Err("the lake has no complete epoch yet".to_owned())),
            Ok(Followed::To(epoch)) => {
                self.metrics.set_features_epoch(epoch);
                self.metrics.set_cache("serving", follower.bytes());
                self.tell("features", Ok(()));
            }
            Err(error @ (LakeError::NoLake { .. } | LakeError::Missing { .. })) => {
                if !std::mem::replace(&mut self.awaits_lake, true) {
                    tracing::warn!(%error, "the rules and the model are asked without a past until it is there");
                }
                self.tell("features", Err(error.to_string()));
            }
            Err(error) => {
                tracing::warn!(%error, "the lake could not be followed");
                self.tell("features", Err(error.to_string()));
            }
        }
    }

    fn tell(&self, condition: &str, state: Result<(), String>) {
        if let Some(readiness) = &self.readiness {
            readiness.set(condition, state);
        }
    }
}
