//! The PostgreSQL server that is measured: a private one, or one that was given.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use db::embedded::{Measured, Server, ServerOptions, temporary_dir};
use db::{ConnectOptions, Pool};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use crate::machine;

/// Which server is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// Measure this server instead of a private one: its address, of a superuser (`postgres://…`).
    #[arg(long, value_name = "URL")]
    pub server_url: Option<String>,
    /// The data folder of that server, on this machine: with it, its processor time is measured, and peers can be.
    #[arg(long, value_name = "DIR", requires = "server_url")]
    pub server_data: Option<PathBuf>,
}

/// A server to measure.
#[derive(Debug)]
pub struct TestServer {
    options: PgConnectOptions,
    data_dir: Option<PathBuf>,
    private: Option<Server>,
    folder: Folder,
}

/// Where temporary files of the measurement go.
#[derive(Debug)]
enum Folder {
    Ours(TempDir),
    /// In the private server's data folder, which the server's watchdog removes.
    Servers(PathBuf),
}

/// A database of that server with our schema and no rows.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name.
    pub name: &'static str,
    /// Connections of the measurement itself.
    pub pool: Pool,
    /// Its address, for worker processes.
    pub url: String,
}

/// Connections that the measurement itself may open.
const CONNECTIONS_MAX: u32 = 40;
/// Connections that the private server takes.
const SERVER_CONNECTIONS_MAX: u32 = 200;
/// What the private server has other than PostgreSQL's defaults.
const SETTINGS: [(&str, &str); 2] = [("shared_buffers", "1GB"), ("max_wal_size", "4GB")];

impl TestServer {
    /// Starts the private server, or takes the given one.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(args: &ServerArgs) -> anyhow::Result<Self> {
        match &args.server_url {
            Some(url) => Ok(Self {
                options: url.parse().context("the server's address")?,
                data_dir: args.server_data.clone(),
                private: None,
                folder: Folder::Ours(temporary_folder("millpond-bench-")?),
            }),
            None => Self::start().await,
        }
    }

    /// A private server, durable as any other, in a temporary folder. It ends with this process, however that ends, and
    /// the folder with it.
    async fn start() -> anyhow::Result<Self> {
        let data = temporary_folder("millpond-bench-data-")?;
        let program = std::env::current_exe().context("finding this program")?;
        let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let port = free_port()?;
        let options = ServerOptions {
            remove_on_stop: true,
            connections_max: SERVER_CONNECTIONS_MAX,
            measured: Some(Measured { port, settings }),
            ..ServerOptions::new(data.path(), program)
        };
        let server = Server::start_or_attach(options).await.context("starting the private server")?;
        // From here on the server's watchdog removes it.
        let data = data.keep();
        let folder = data.join("bench");
        std::fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let options = server.connect_options();
        let (user, database) =
            (options.get_username().to_owned(), options.get_database().unwrap_or("postgres"));
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(&user)
            .database(database)
            .ssl_mode(PgSslMode::Disable);
        Ok(Self {
            options,
            data_dir: Some(data.join("postgres")),
            private: Some(server),
            folder: Folder::Servers(folder),
        })
    }

    /// How to connect to it.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Where temporary files of the measurement go.
    pub fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Ours(folder) => folder.path(),
            Folder::Servers(folder) => folder,
        }
    }

    /// The server's data folder, when it is known.
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// The environment by which programs of others find it.
    ///
    /// # Errors
    /// When its data folder is not known.
    pub fn variables(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let data =
            self.data_dir().context("peers need the server's data folder: name it with --server-data")?;
        let postmaster = machine::postmaster_pid(data)?;
        let program =
            std::fs::read_link(format!("/proc/{postmaster}/exe")).context("finding PostgreSQL's programs")?;
        let programs = program.parent().unwrap_or(Path::new("/usr/bin"));
        Ok(vec![
            ("PGDATA", data.display().to_string()),
            ("PGBIN", programs.display().to_string()),
            ("PGHOST", self.options.get_host().to_owned()),
            ("PGPORT", self.options.get_port().to_string()),
            ("PGUSER", self.options.get_username().to_owned()),
        ])
    }

    /// Makes a database anew, with our schema.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn fresh_database(&self, name: &'static str) -> anyhow::Result<Database> {
        self.run(&[
            format!("drop database if exists {name} with (force)"),
            format!("create database {name}"),
        ])
        .await?;
        let database = self.connect(name).await?;
        db::migrate(&database.pool).await?;
        Ok(database)
    }

    /// Makes a database anew, with all that another has, to which nobody may be connected.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn copied_database(&self, from: &'static str, name: &'static str) -> anyhow::Result<Database> {
        let create = format!("create database {name} template {from}");
        self.run(&[format!("drop database if exists {name} with (force)"), create]).await?;
        self.connect(name).await
    }

    /// Removes a database.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn drop_database(&self, name: &'static str) -> anyhow::Result<()> {
        self.run(&[format!("drop database if exists {name} with (force)")]).await
    }

    /// A database of this server that is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn connect(&self, name: &'static str) -> anyhow::Result<Database> {
        let options = self.options.clone().database(name);
        let url = options.to_url_lossy().to_string();
        let pool = db::connect(&ConnectOptions {
            connections_max: CONNECTIONS_MAX,
            application_name: "bench".to_owned(),
            ..ConnectOptions::new(options)
        })
        .await?;
        Ok(Database { name, pool, url })
    }

    async fn run(&self, statements: &[String]) -> anyhow::Result<()> {
        let mut connection = self.options.clone().connect().await.context("connecting to the server")?;
        for statement in statements {
            // Statements about databases take no parameters; the names are our own.
            sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await?;
        }
        Ok(connection.close().await?)
    }

    /// Stops a private server and removes what was made.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some(server) = self.private {
            server.stop().await?;
        }
        if let Folder::Ours(folder) = self.folder {
            folder.close()?;
        }
        Ok(())
    }
}

fn temporary_folder(prefix: &str) -> anyhow::Result<TempDir> {
    let private = std::fs::Permissions::from_mode(0o700);
    let parent = temporary_dir();
    let made = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(&parent);
    made.with_context(|| format!("creating a folder in {}", parent.display()))
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).context("finding a free port")?.local_addr()?.port())
}
