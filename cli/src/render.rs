//! `tollgate render`: the resource that brings a filter with its policy into a proxy.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tollgate_envoyfilter::{Delivery, Facts, Image, Policy, Rendered, Target, Traffic, render};
use tollgate_host::scenario::{FilterSource, FilterUse, Scenario, configuration};
use tollgate_module::Module;
use tollgate_oci::{Digest, Fetched, Reference, Refusal, verdict};

use crate::check::{Configuration, configure};
use crate::filters::{BuiltIns, refuse_unloadable};
use crate::limits::LimitOptions;
use crate::metrics;
use crate::{Outcome, print};

/// Arguments of `tollgate render`.
#[derive(Args)]
pub(crate) struct Render {
    /// The policy: YAML or JSON.
    policy: PathBuf,
    /// Whose resource.
    #[arg(long, value_enum)]
    target: Mesh,
    /// The file of the module: it is judged, and an image that the policy names is not pulled.
    #[arg(long, value_name = "FILE.wasm")]
    module: Option<PathBuf>,
    /// The image that brings the module to the proxy, in place of what the policy says: as `push` prints it.
    #[arg(long, value_name = "REPO@DIGEST")]
    image: Option<Reference>,
    /// Write each document into a file of this folder, in place of all to standard output.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    built_ins: BuiltIns,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mesh {
    /// Envoy: a list for `http_filters`, and what the bootstrap needs for it.
    Envoy,
    /// Envoy: a whole bootstrap.
    EnvoyBootstrap,
    /// Envoy: a whole bootstrap, and the filter in a file that Envoy watches.
    EnvoyXds,
    /// Istio: an `EnvoyFilter`.
    Istio,
    /// Istio: a `WasmPlugin`.
    IstioWasmplugin,
    /// Istio from 1.30 on: a `TrafficExtension`.
    IstioTrafficextension,
    /// Envoy Gateway: an `EnvoyExtensionPolicy`.
    EnvoyGateway,
    /// Higress: its `WasmPlugin`.
    Higress,
    /// Kuma and Kong Mesh: a `MeshProxyPatch`.
    Kuma,
    /// MOSN: its stream filters.
    Mosn,
}

impl From<Mesh> for Target {
    fn from(mesh: Mesh) -> Self {
        match mesh {
            Mesh::Envoy => Self::Envoy,
            Mesh::EnvoyBootstrap => Self::EnvoyBootstrap,
            Mesh::EnvoyXds => Self::EnvoyXds,
            Mesh::Istio => Self::Istio,
            Mesh::IstioWasmplugin => Self::IstioWasmPlugin,
            Mesh::IstioTrafficextension => Self::IstioTrafficExtension,
            Mesh::EnvoyGateway => Self::EnvoyGateway,
            Mesh::Higress => Self::Higress,
            Mesh::Kuma => Self::Kuma,
            Mesh::Mosn => Self::Mosn,
        }
    }
}

impl Render {
    /// Runs the command: a policy that the module itself refuses is not rendered.
    ///
    /// # Errors
    ///
    /// What cannot be read, and a module that no proxy would load.
    pub(crate) fn run(self) -> Result<Outcome> {
        let file = self.policy.clone();
        let name = file.display();
        let text = std::fs::read_to_string(&self.policy)
            .with_context(|| format!("{name} cannot be read"))?;
        let mut policy = Policy::parse(&text).with_context(|| format!("{name}"))?;
        if let Some(reference) = &self.image {
            if reference.digest().is_none() {
                bail!("--image: {reference} has no digest; write it as `tollgate push` prints it");
            }
            policy.deliver(Image::parse(&format!("oci://{reference}")).context("--image")?);
        }
        let source = if let Some(file) = &self.module {
            FilterSource::File(file.clone())
        } else {
            let (source, image) = source(&policy.filter, &file, &self.built_ins)
                .with_context(|| format!("{name}"))?;
            let judged = image.map(|image| pin(&mut policy, image)).transpose();
            match judged.with_context(|| format!("{name}"))? {
                Some(Judged::Refused(refusal)) => {
                    eprintln!("{name}: no mesh takes {}: {refusal}", policy.filter);
                    return Ok(Outcome::Failed);
                }
                Some(Judged::FromIndex { index, pinned }) => eprintln!(
                    "note: {name}: filter: {index} is an index; pinned is the image that meshes \
                     take from it, {pinned}"
                ),
                Some(Judged::Taken) | None => {}
            }
            source
        };
        let (file, bytes) = self.built_ins.read(&source).with_context(|| format!("{name}"))?;

        let filter = FilterUse {
            name: policy.plugin_name().to_owned(),
            root_id: policy.root_id.clone(),
            environment: policy.environment.clone(),
            ..FilterUse::new(source, configuration(policy.config.clone()))
        };
        let scenario = Scenario::without_steps(filter);
        refuse_unloadable(&self.built_ins, &scenario)?;
        if let Configuration::Refused { words } =
            configure(self.built_ins, self.limits.read()?, &scenario)?
        {
            eprintln!("{name}: the filter refuses its configuration:\n{}", words.join("\n"));
            return Ok(Outcome::Failed);
        }

        let mut facts = facts(&file, bytes)?;
        metrics::add_to(&mut facts, &policy).with_context(|| format!("{name}"))?;
        let rendered =
            render(self.target.into(), &policy, &facts).with_context(|| format!("{name}"))?;
        for note in &rendered.notes {
            eprintln!("note: {name}: {note}");
        }
        match &self.out {
            Some(folder) => write(&rendered, folder)?,
            None => print(rendered.to_text()?.trim_end())?,
        }
        Ok(Outcome::Done)
    }
}

/// What is said of the image that a policy names.
enum Judged {
    /// It is what it was called.
    Taken,
    /// What was pinned is an index, and now the image that meshes take from it.
    FromIndex { index: Digest, pinned: Digest },
    /// The mesh that would have to pull it does not take it.
    Refused(Refusal),
}

/// Pins the image that a policy names, by the digest that meshes compare with.
///
/// # Errors
///
/// When the policy names another one for the mesh.
fn pin(policy: &mut Policy, mut image: Fetched) -> Result<Judged> {
    let named = image.reference.digest().cloned();
    image.reference = image.reference.pinned(&image.digest);
    if let (Some(Delivery::Image(_)), Err(refusal)) = (&policy.module, verdict(&image)) {
        return Ok(Judged::Refused(refusal));
    }
    policy.pin(image.digest.hex())?;
    let pinned = image.digest;
    Ok(match named.filter(|named| *named != pinned) {
        Some(index) => Judged::FromIndex { index, pinned },
        None => Judged::Taken,
    })
}

fn write(rendered: &Rendered, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    for document in &rendered.documents {
        let file = folder.join(&document.file);
        let text = document.to_text()?;
        std::fs::write(&file, text).with_context(|| format!("{}", file.display()))?;
        eprintln!("{}", file.display());
    }
    Ok(())
}

/// The module of a policy: a path is meant from the folder of the policy, and an image is pulled.
///
/// # Errors
///
/// A text that names no filter, and an image that cannot be pulled.
pub(crate) fn source(
    filter: &str,
    policy: &Path,
    built_ins: &BuiltIns,
) -> Result<(FilterSource, Option<Fetched>)> {
    if filter.starts_with("oci://") {
        let (source, image) = built_ins.fetch(&filter.parse()?)?;
        return Ok((source, Some(image)));
    }
    let folder = policy.parent().unwrap_or(Path::new(""));
    Ok((FilterSource::parse(filter)?.within(folder), None))
}

fn facts(file: &Path, bytes: Vec<u8>) -> Result<Facts> {
    let name = file.display();
    let module = Module::read(&bytes).with_context(|| format!("{name}"))?;
    let metadata = module.metadata().with_context(|| format!("{name}"))?;
    let callbacks = module.callbacks().map(|callback| callback.name().to_owned());
    let functions = module.imports().iter().map(|import| import.name.clone());
    let capabilities: BTreeSet<String> = callbacks.chain(functions).collect();
    let abi = module.abi().map(|version| version.to_string()).unwrap_or_default();
    let needs = metadata.as_ref().map(|metadata| metadata.needs.clone()).unwrap_or_default();
    let stats_tags = metadata.map(|metadata| metadata.stats_tags).unwrap_or_default();
    let here = std::path::absolute(file).with_context(|| format!("{name}"))?;
    Ok(Facts {
        file: here.to_str().with_context(|| format!("{name} is not UTF-8"))?.to_owned(),
        abi,
        traffic: traffic(&capabilities),
        capabilities,
        needs,
        stats_tags: stats_tags.into_iter().map(|tag| (tag.tag_name, tag.regex)).collect(),
        histogram_bounds: Vec::new(),
        bytes,
    })
}

/// What a module stands in front of: its callbacks tell.
fn traffic(capabilities: &BTreeSet<String>) -> Traffic {
    let has = |names: &[&str]| names.iter().any(|name| capabilities.contains(*name));
    let tcp = ["proxy_on_new_connection", "proxy_on_downstream_data", "proxy_on_upstream_data"];
    if has(&tcp) && !has(&["proxy_on_request_headers", "proxy_on_response_headers"]) {
        Traffic::Tcp
    } else {
        Traffic::Http
    }
}
