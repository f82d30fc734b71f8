//! A database's clock that stands still until a test moves it.
//!
//! In the test's database alone a schema with its own `now()` and `clock_timestamp()` comes before PostgreSQL's in the
//! search path, so every statement and function that asks for the time gets what the test set. Defaults of columns
//! are bound to a function when the table is made, so they are set anew.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

use crate::support::TestDb;
use db::Pool;

/// The clock of one test's database.
pub struct TestClock {
    pool: Pool,
}

const INSTALL: &str = "
    create schema test_clock;
    -- Null: it runs.
    create table test_clock.clock (stands_at timestamptz, ahead interval not null default '0');
    insert into test_clock.clock (stands_at) values (pg_catalog.now());
    create function test_clock.now() returns timestamptz language sql stable as
        'select coalesce(stands_at, pg_catalog.now() + ahead) from test_clock.clock';
    create function test_clock.clock_timestamp() returns timestamptz language sql volatile as
        'select coalesce(stands_at, pg_catalog.clock_timestamp() + ahead) from test_clock.clock';
    do $$
    declare
        statement text;
    begin
        for statement in
            select format(
                'alter table %I alter column %I set default %s',
                table_name, column_name, replace(column_default, 'now()', 'test_clock.now()')
            )
            from information_schema.columns
            where table_schema = 'public' and column_default like '%now()%'
        loop
            execute statement;
        end loop;
        execute format(
            'alter database %I set search_path = public, test_clock, pg_catalog', current_database()
        );
    end
    $$;";

impl TestClock {
    /// Stops the clock of a database that nobody has connected to yet.
    pub async fn install(db: &TestDb) -> Self {
        let mut connection = db.server().connect().await.unwrap();
        sqlx::raw_sql(INSTALL).execute(&mut connection).await.unwrap();
        Self { pool: db.pool().clone() }
    }

    /// What the database takes for now.
    pub async fn now(&self) -> DateTime<Utc> {
        sqlx::raw_sql("select now()").fetch_one(&self.pool).await.unwrap().get(0)
    }

    /// Moves it on. Worker processes that live go on living: their heartbeats move with it.
    pub async fn advance(&self, by: Duration) {
        let by = format!("interval '{} microseconds'", by.as_micros());
        self.execute(format!(
            "begin;
             update worker_processes set heartbeat_at = heartbeat_at + {by}
             where heartbeat_at > now() - interval '10 minutes';
             update test_clock.clock set stands_at = stands_at + {by}, ahead = ahead + {by};
             commit;"
        ))
        .await;
    }

    /// Sets it, also back. Heartbeats stay as they are.
    pub async fn set(&self, instant: DateTime<Utc>) {
        self.execute(format!("update test_clock.clock set stands_at = '{}'", instant.to_rfc3339())).await;
    }

    /// Lets it run on from where it stands, for tests with real workers.
    pub async fn run_on(&self) {
        self.execute(
            "update test_clock.clock
             set ahead = stands_at - pg_catalog.clock_timestamp(), stands_at = null
             where stands_at is not null"
                .to_owned(),
        )
        .await;
    }

    async fn execute(&self, statement: String) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.pool).await.unwrap();
    }
}
