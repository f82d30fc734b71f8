//! `millpond users …`: people who may sign in. The first admin is made here; the rest can be made through the API too.

use std::io::{IsTerminal, Read};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use db::Connection;
use identity::{Email, NewPerson, Password, Passwords, Person, PersonChange, Role, Secret, SecretKind};
use jobs::people;
use kernel::ids::UserId;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::commands::jobs::instant;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Asker, Database, settings};

/// People shown at the most.
const PEOPLE_MAX: i64 = 10_000;

/// What can be done with people.
#[derive(Debug, Subcommand)]
pub(crate) enum UsersCommand {
    /// Let somebody in, and show their password if it was made up here
    Create(CreateArgs),
    /// Show who may sign in
    List,
    /// Give somebody another role
    SetRole(RoleArgs),
    /// Give somebody another password, which signs them out everywhere; shown if it was made up here
    SetPassword(PasswordArgs),
    /// Let somebody in no more; signs them out everywhere
    Disable(UserArg),
    /// Let somebody in again
    Enable(UserArg),
}

/// Arguments of `users create`.
#[derive(Debug, Args)]
#[command(after_help = "\
viewer sees, operator steers too, admin lets people in and changes what partners get.

Examples:
  millpond users create anna@example.com --role admin
                                    makes up a password and shows it, this once
  millpond users create ben@example.com --role viewer --password-stdin < password.txt
  millpond users create carla@example.com --role operator --no-password
                                    signs in by single sign-on, or asks for a mail to choose a password")]
pub(crate) struct CreateArgs {
    /// Their e-mail address
    email: String,
    /// viewer, operator or admin
    #[arg(long)]
    role: Role,
    #[command(flatten)]
    password: PasswordForm,
    /// They have none yet
    #[arg(long, conflicts_with = "password_stdin")]
    no_password: bool,
}

/// Where a password comes from.
#[derive(Debug, Args)]
struct PasswordForm {
    /// Read the password from standard input, instead of making one up
    #[arg(long)]
    password_stdin: bool,
}

/// Arguments of `users set-role`.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    #[command(flatten)]
    user: UserArg,
    /// viewer, operator or admin
    role: Role,
}

/// Arguments of `users set-password`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond users set-password anna@example.com
                                    makes up a password and shows it, this once
  millpond users set-password anna@example.com --password-stdin < password.txt")]
pub(crate) struct PasswordArgs {
    #[command(flatten)]
    user: UserArg,
    #[command(flatten)]
    password: PasswordForm,
}

/// Which person.
#[derive(Debug, Args)]
pub(crate) struct UserArg {
    /// Their e-mail address or id (usr_…)
    user: String,
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: UsersCommand) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let result = match Asker::new(&settings, &database).await {
        Ok(asker) => act(&database, &asker, Output::new(globals.json), command).await,
        Err(error) => Err(error),
    };
    let closed = database.close().await;
    result.and(closed)
}

async fn act(
    database: &Database,
    asker: &Asker,
    output: Output,
    command: UsersCommand,
) -> Result<(), CliError> {
    match command {
        UsersCommand::Create(arguments) => create(database, asker, output, arguments).await,
        UsersCommand::List => {
            let mut conn = database.pool.acquire().await?;
            let people = people::list(&mut conn, &asker.door(), None, None, PEOPLE_MAX).await?;
            let json: Vec<Value> = people.iter().map(as_json).collect();
            output.show(&json, || as_table(&people))
        }
        UsersCommand::SetRole(RoleArgs { user, role }) => {
            let change = PersonChange { role: Some(role), ..PersonChange::default() };
            let said = move |person: &Person| format!("{} is {role} now", person.email.as_str());
            changed(database, asker, output, &user, change, None, said).await
        }
        UsersCommand::SetPassword(PasswordArgs { user, password }) => {
            let (password, made_up) = password.read()?;
            let hash = Passwords::new(1).hash(password).await?;
            let change = PersonChange { password: Some(hash), ..PersonChange::default() };
            let shown = made_up.as_deref().map(|made_up| format!(": {made_up}")).unwrap_or_default();
            let said =
                move |person: &Person| format!("{} has another password{shown}", person.email.as_str());
            changed(database, asker, output, &user, change, made_up, said).await
        }
        UsersCommand::Disable(user) => switch(database, asker, output, &user, false).await,
        UsersCommand::Enable(user) => switch(database, asker, output, &user, true).await,
    }
}

async fn create(
    database: &Database,
    asker: &Asker,
    output: Output,
    arguments: CreateArgs,
) -> Result<(), CliError> {
    let email = address(&arguments.email)?;
    let (password, made_up) = match arguments.no_password {
        true => (None, None),
        false => {
            let (password, made_up) = arguments.password.read()?;
            (Some(Passwords::new(1).hash(password).await?), made_up)
        }
    };
    let mut tx = db::begin(&database.pool).await?;
    let new = NewPerson { email, role: arguments.role, password };
    let person = people::create(&mut tx, &asker.door(), new).await?;
    tx.commit().await?;
    let mut json = as_json(&person);
    if let Some(made_up) = &made_up {
        json["password"] = made_up.as_str().into();
    }
    output.show(&json, || {
        let Person { id, email, role, .. } = &person;
        let password = match &made_up {
            Some(made_up) => format!("\npassword {made_up}\n\nKept nowhere in clear: note it now."),
            None => String::new(),
        };
        format!("made {role} {} ({id}){password}", email.as_str())
    })
}

impl PasswordForm {
    /// The password, and its text where it was made up.
    fn read(&self) -> Result<(Password, Option<String>), CliError> {
        if !self.password_stdin {
            // As random as any secret of ours.
            let made_up = Secret::generate(SecretKind::Permit).expose()[4..28].to_owned();
            return Ok((Password::chosen(&made_up).map_err(wrong)?, Some(made_up)));
        }
        let mut stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(CliError::Usage("give the password on standard input: … < password.txt".to_owned()));
        }
        let mut text = String::new();
        let read = std::io::Read::by_ref(&mut stdin).take(4_096).read_to_string(&mut text);
        read.map_err(|error| CliError::part("reading the password", error))?;
        let text = text.trim_end_matches(['\n', '\r']);
        Ok((Password::chosen(text).map_err(wrong)?, None))
    }
}

async fn switch(
    database: &Database,
    asker: &Asker,
    output: Output,
    user: &UserArg,
    enabled: bool,
) -> Result<(), CliError> {
    let change = PersonChange { enabled: Some(enabled), ..PersonChange::default() };
    let now = if enabled { "may sign in" } else { "may no longer sign in, and is signed out everywhere" };
    let said = |person: &Person| format!("{} {now}", person.email.as_str());
    changed(database, asker, output, user, change, None, said).await
}

/// Changes a person, and shows them with the password that was made up for them, if one was.
async fn changed(
    database: &Database,
    asker: &Asker,
    output: Output,
    user: &UserArg,
    change: PersonChange,
    made_up: Option<String>,
    said: impl FnOnce(&Person) -> String,
) -> Result<(), CliError> {
    let mut tx = db::begin(&database.pool).await?;
    let id = find(&mut tx, asker, &user.user).await?;
    let changed = people::change(&mut tx, &asker.door(), id, change).await?;
    tx.commit().await?;
    let mut json = as_json(&changed.person);
    json["sessionsEnded"] = changed.sessions_ended.into();
    if let Some(made_up) = made_up {
        // Kept nowhere in clear: who does not read it here has to make up another.
        json["password"] = made_up.into();
    }
    output.show(&json, || said(&changed.person))
}

/// A person by address or id.
async fn find(conn: &mut Connection, asker: &Asker, text: &str) -> Result<UserId, CliError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let email = address(text)?;
    let found = identity::find_by_email(conn, asker.keyring(), &email).await?;
    found.map(|found| found.person.id).ok_or_else(|| {
        CliError::NotFound(format!("nobody has the address {text}; `millpond users list` shows all"))
    })
}

fn address(text: &str) -> Result<Email, CliError> {
    Email::parse(text).map_err(|error| CliError::Usage(format!("email: {error}")))
}

fn wrong(fault: identity::FieldFault) -> CliError {
    CliError::Usage(format!("{}: {}", fault.field, fault.message))
}

fn as_json(person: &Person) -> Value {
    json!({
        "id": person.id,
        "email": person.email.as_str(),
        "role": person.role.as_str(),
        "isEnabled": person.disabled_at.is_none(),
        "hasPassword": person.has_password,
        "hasOidc": person.has_oidc,
        "createdAt": instant(person.created_at),
        "signedInAt": person.signed_in_at.map(instant),
    })
}

fn as_table(people: &[Person]) -> String {
    if people.is_empty() {
        return "nobody may sign in yet: `millpond users create you@example.com --role admin`".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ADDRESS", "ROLE", "SIGNS IN BY", "SIGNED IN", "ID"]);
    let day = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    for person in people {
        let by = match (person.disabled_at, person.has_password, person.has_oidc) {
            (Some(_), ..) => "disabled",
            (None, true, true) => "password, single sign-on",
            (None, true, false) => "password",
            (None, false, true) => "single sign-on",
            (None, false, false) => "nothing yet",
        };
        table.add_row([
            person.email.as_str().to_owned(),
            person.role.to_string(),
            by.to_owned(),
            person.signed_in_at.map_or_else(|| "never".to_owned(), day),
            person.id.to_string(),
        ]);
    }
    table.trim_fmt()
}
