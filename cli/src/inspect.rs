//! `tollgate inspect`: what an image is.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tollgate_module::Module;
use tollgate_oci::{Descriptor, Digest, Fetched, Layout, Reference};

use crate::images::RegistryOptions;
use crate::{Format, Outcome, print};

/// Arguments of `tollgate inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The image; `latest` without a tag or a digest.
    #[arg(value_name = "REPO[:TAG][@DIGEST]")]
    image: Reference,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    registries: RegistryOptions,
}

/// What can be said of an image.
#[derive(Serialize)]
struct Findings {
    image: String,
    digest: Digest,
    /// The index that it was taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<Digest>,
    /// How the module lies in it; nothing when it has none.
    layout: Option<Layout>,
    media_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
    module: Option<Contained>,
}

/// What can be said of its module.
#[derive(Serialize)]
struct Contained {
    digest: Digest,
    size_bytes: usize,
    name: Option<String>,
    version: Option<String>,
    abi: Option<String>,
}

impl Inspect {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(crate) fn run(self) -> Result<Outcome> {
        let image = self.registries.read()?.fetch(&self.image)?;
        let module = image.module().transpose().with_context(|| self.image.to_string())?;
        let module = module.map(|bytes| contained(&bytes)).transpose();
        let module = module.with_context(|| format!("{}: its module", self.image))?;
        let findings = findings(image, module);
        print(&match self.format {
            Format::Json => serde_json::to_string_pretty(&findings)?,
            Format::Text => text(&findings),
        })?;
        Ok(Outcome::Done)
    }
}

fn contained(bytes: &[u8]) -> Result<Contained> {
    let module = Module::read(bytes)?;
    let (name, version) =
        module.metadata()?.map(|metadata| (metadata.name, metadata.version)).unzip();
    Ok(Contained {
        digest: Digest::of(bytes),
        size_bytes: bytes.len(),
        name,
        version,
        abi: module.abi().map(|abi| abi.to_string()),
    })
}

fn findings(image: Fetched, module: Option<Contained>) -> Findings {
    Findings {
        image: image.reference.to_string(),
        layout: image.layout(),
        digest: image.digest,
        index: image.index.map(|(digest, _)| digest),
        media_type: image.manifest.media_type,
        config: image.manifest.config,
        layers: image.manifest.layers,
        annotations: image.manifest.annotations,
        module,
    }
}

fn text(findings: &Findings) -> String {
    let mut lines = vec![findings.image.clone()];
    let mut line = |name: &str, text: &str| lines.push(format!("  {name:<9} {text}"));
    line("digest", findings.digest.as_str());
    if let Some(index) = &findings.index {
        line("index", &format!("{index}; meshes compare with the digest above"));
    }
    let layout = findings.layout.map(|layout| layout.to_string());
    line("layout", layout.as_deref().unwrap_or("none that is known: no module in it"));
    line("manifest", findings.media_type.as_deref().unwrap_or("not said"));
    let blob =
        |blob: &Descriptor| format!("{}, {} bytes, {}", blob.media_type, blob.size, blob.digest);
    line("config", &blob(&findings.config));
    for layer in &findings.layers {
        line("layer", &blob(layer));
    }
    for (key, value) in &findings.annotations {
        line("says", &format!("{key}: {value}"));
    }
    if let Some(module) = &findings.module {
        let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "not said".into());
        let (name, version) = (said(&module.name), said(&module.version));
        line("module", &format!("{name}, version {version}, ABI {}", said(&module.abi)));
        line("", &format!("{} bytes, {}", module.size_bytes, module.digest));
    }
    lines.join("\n")
}
