//! `tollgate verify`: whether meshes would take an image, and whether Envoy would load its module.

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tollgate_module::Module;
use tollgate_oci::{Digest, Fetched, Layout, Mesh, Reference, verdict};

use crate::filters::DeclaredImports;
use crate::images::RegistryOptions;
use crate::loading::Loading;
use crate::{Format, Outcome, print};

/// Arguments of `tollgate verify`.
#[derive(Args)]
pub(crate) struct Verify {
    /// The image; `latest` without a tag or a digest.
    #[arg(value_name = "REPO[:TAG][@DIGEST]")]
    image: Reference,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    registries: RegistryOptions,
    #[command(flatten)]
    imports: DeclaredImports,
}

/// What was found.
#[derive(Serialize)]
struct Findings {
    image: String,
    /// What `sha256` fields of meshes compare with.
    digest: Digest,
    layout: Option<Layout>,
    meshes: Vec<Judged>,
    /// How Envoy would load the module; nothing when there is none.
    module: Option<Loading>,
}

/// What a mesh would do.
#[derive(Serialize)]
struct Judged {
    mesh: Mesh,
    takes: bool,
    /// In the words of its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

impl Verify {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(crate) fn run(self) -> Result<Outcome> {
        let image = self.registries.read()?.fetch(&self.image)?;
        let findings = findings(&image, &self.imports)?;
        print(&match self.format {
            Format::Json => serde_json::to_string_pretty(&findings)?,
            Format::Text => text(&findings),
        })?;
        let is_loaded = findings.module.as_ref().is_some_and(|loading| loading.is_loaded);
        let is_taken = findings.meshes.iter().all(|judged| judged.takes);
        Ok(if is_loaded && is_taken { Outcome::Done } else { Outcome::Failed })
    }
}

fn findings(image: &Fetched, imports: &DeclaredImports) -> Result<Findings> {
    let refusal = verdict(image).err().map(|refusal| refusal.to_string());
    let meshes =
        Mesh::ALL.map(|mesh| Judged { mesh, takes: refusal.is_none(), refusal: refusal.clone() });
    // One that does not come out of the layer is refused above already.
    let loading = match image.module() {
        Some(Ok(bytes)) => {
            let module = Module::read(&bytes);
            let module = module.with_context(|| format!("{}: its module", image.reference))?;
            Some(Loading::of(&module, &imports.all()))
        }
        Some(Err(_)) | None => None,
    };
    Ok(Findings {
        image: image.reference.to_string(),
        digest: image.digest.clone(),
        layout: image.layout(),
        meshes: meshes.into(),
        module: loading,
    })
}

fn text(findings: &Findings) -> String {
    let mut lines = vec![findings.image.clone(), format!("  digest         {}", findings.digest)];
    let layout = findings.layout.map(|layout| layout.to_string());
    lines.push(format!("  layout         {}", layout.as_deref().unwrap_or("none that is known")));
    for judged in &findings.meshes {
        let verdict = match &judged.refusal {
            None => "takes it".to_owned(),
            Some(words) => format!("REFUSES it: {words}"),
        };
        lines.push(format!("  {:<14} {verdict}", judged.mesh.name()));
    }
    match &findings.module {
        Some(loading) => lines.extend(loading.lines()),
        None => lines.push("  module         none".into()),
    }
    lines.join("\n")
}
