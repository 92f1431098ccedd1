//! What commands share that speak to registries: the way there, and what is told on it.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tollgate_oci::{
    Access, Credential, Descriptor, Event, Fetched, Login, PlainHttp, Reference, Repository, Retry,
    Transport,
};

/// How many letters of a digest a bar has.
const SHOWN_OF_DIGEST: usize = 19;

/// How to speak to registries.
#[derive(Args, Clone, Debug)]
pub(crate) struct RegistryOptions {
    /// Speak plain HTTP to registries. Those on this machine are spoken to so anyway, unless --ca is given.
    #[arg(long, conflicts_with = "ca")]
    plain_http: bool,
    /// Certificates of CAs that registries may show, beside the system's, as PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The user at registries, with the password on standard input. Without it, credentials come from
    /// `TOLLGATE_REGISTRY_USERNAME` and `TOLLGATE_REGISTRY_PASSWORD`, Docker's configuration and its
    /// helpers, or Podman's file.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// How to speak to registries, once all is read.
pub(crate) struct Registries {
    plain: PlainHttp,
    ca: Option<Vec<u8>>,
    login: Login,
}

impl RegistryOptions {
    /// Reads the files, and standard input if it has the password.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(crate) fn read(self) -> Result<Registries> {
        let ca = self.ca.map(|file| {
            std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))
        });
        let login = match self.username {
            Some(username) => {
                let mut password = String::new();
                io::stdin().read_to_string(&mut password).context("standard input")?;
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Login::Given(Credential::Password { username, password })
            }
            None => Login::of_this_process(),
        };
        let plain = if self.plain_http { PlainHttp::Allowed } else { PlainHttp::OnLoopback };
        Ok(Registries { plain, ca: ca.transpose()?, login })
    }
}

impl Registries {
    /// The way to the registry of an image.
    ///
    /// # Errors
    ///
    /// When there is nobody to trust.
    pub(crate) fn transport(&self, reference: &Reference) -> Result<Transport> {
        Ok(Transport::new(reference, self.plain, self.ca.as_deref())?)
    }

    /// The repository of an image; what happens on the way is told on standard error.
    pub(crate) fn repository<'a>(
        &'a self,
        reference: &Reference,
        access: Access,
        transport: &'a Transport,
    ) -> Repository<'a> {
        let mut progress = Progress::default();
        let listener = move |event: &Event<'_>| progress.tell(event);
        Repository::new(reference, access, &self.login, transport, Retry::default(), listener)
    }

    /// Reads an image.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    pub(crate) fn fetch(&self, reference: &Reference) -> Result<Fetched> {
        let transport = self.transport(reference)?;
        let mut repository = self.repository(reference, Access::Pull, &transport);
        repository.fetch().with_context(|| reference.to_string())
    }
}

/// The module of an image.
///
/// # Errors
///
/// When it has none, or not where its layout says.
pub(crate) fn module(image: &Fetched) -> Result<Vec<u8>> {
    let module = image.module().context("no module in it; see `tollgate inspect`");
    let module = module.and_then(|module| Ok(module?));
    module.with_context(|| image.reference.to_string())
}

/// Progress goes to a terminal only; that something is tried again, everywhere.
#[derive(Default)]
struct Progress {
    /// That of the blob which moves.
    bar: Option<ProgressBar>,
}

impl Progress {
    fn tell(&mut self, event: &Event<'_>) {
        let is_watched = io::stderr().is_terminal();
        if let Event::Moved { bytes, .. } = event {
            return self.bar.iter().for_each(|bar| bar.set_position(*bytes));
        }
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
        match event {
            Event::Retrying { failure, pause } => {
                eprintln!("{failure}; trying again in {:.1} s", pause.as_secs_f32());
            }
            Event::Present(blob) if is_watched => {
                eprintln!("{}  {} bytes, there already", blob.digest, blob.size);
            }
            Event::Named(name) if is_watched => eprintln!("{name}  named"),
            Event::Sending(blob) | Event::Reading(blob) if is_watched => {
                self.bar = Some(bar(blob));
            }
            Event::Present(_)
            | Event::Named(_)
            | Event::Sending(_)
            | Event::Reading(_)
            | Event::Moved { .. } => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}

/// A line of the terminal with a part of the blob's digest, which grows until all of it has moved.
fn bar(blob: &Descriptor) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(blob.size), ProgressDrawTarget::stderr());
    let style = "{msg}  [{bar:24}] {percent:>3} %  {bytes} of {total_bytes}, {bytes_per_sec}";
    let message: String = blob.digest.as_str().chars().take(SHOWN_OF_DIGEST).collect();
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")).with_message(message),
        Err(_) => bar.with_message(message),
    }
}
