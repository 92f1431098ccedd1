//! Other meshes: `EnvoyExtensionPolicy` of Envoy Gateway, `MeshProxyPatch` of Kuma.

use tollgate_tree::Node;

use super::envoy_filter::version;
use super::rules::{
    ADD_AFTER_ROUTER, AFTER_LAST, FETCHED_BY_KUMA, GATEWAY_PLACE, PATCH_TEXT, UNPINNED,
};
use super::{Lint, list_at, text_at, wasm};
use crate::istio::ROUTER;

pub(super) fn envoy_gateway(document: &Node, lint: &mut Lint) {
    version(document, "gateway.envoyproxy.io/v1alpha1", lint);
    for filter in list_at(document, &["spec", "wasm"]) {
        let Some(code) = filter.find("code") else { continue };
        for (at, place) in [
            (code.at(&["image", "pullPolicy"]), "pullPolicy stands in `code`"),
            (code.at(&["image", "pullSecret"]), "the secret is `image.pullSecretRef`"),
            (filter.find("failStrategy"), "it is `failOpen`"),
            (filter.find("pluginConfig"), "it is `config`"),
            (filter.find("pluginName"), "it is `rootID`"),
        ] {
            if let Some(at) = at {
                lint.found(at, &GATEWAY_PLACE, place);
            }
        }
        wasm::check_pull_policy(code.find("pullPolicy"), lint);
        for kind in ["image", "http"] {
            let Some(source) = code.find(kind) else { continue };
            let url = text_at(source, &["url"]);
            let at = source.find("url").unwrap_or(source);
            if kind == "image" && url.contains("://") {
                lint.found(at, &GATEWAY_PLACE, "the URL of an image has no scheme");
            }
            let is_followed = text_at(code, &["pullPolicy"]) == "Always";
            wasm::check_digest(source, url, at, is_followed, lint);
        }
        if code.find("image").is_none() && code.find("http").is_none() {
            lint.found(code, &UNPINNED, "no image and no http");
        }
    }
}

pub(super) fn kuma(document: &Node, lint: &mut Lint) {
    version(document, "kuma.io/v1alpha1", lint);
    for patch in list_at(document, &["spec", "default", "appendModifications"]) {
        for kind in ["httpFilter", "networkFilter"] {
            let Some(patch) = patch.find(kind) else { continue };
            let operation = text_at(patch, &["operation"]);
            let at = patch.find("operation").unwrap_or(patch);
            if operation == "AddLast" {
                lint.found(at, &ADD_AFTER_ROUTER, "AddLast");
            }
            if operation == "AddAfter" && text_at(patch, &["match", "name"]) == ROUTER {
                lint.found(at, &AFTER_LAST, "AddAfter the router");
            }
            let Some(value) = patch.find("value") else { continue };
            let Ok(text) = value.text() else {
                lint.found(value, &PATCH_TEXT, "a map");
                continue;
            };
            let inner = tollgate_tree::parse(text).unwrap_or_default();
            let is_remote = inner.iter().any(|filter| {
                let code = ["typed_config", "config", "vm_config", "code", "remote"];
                filter.at(&code).is_some()
            });
            if is_remote {
                lint.found(value, &FETCHED_BY_KUMA, "code.remote");
            }
        }
    }
}
