//! One patch of an `EnvoyFilter`: where it applies, and what it does there.

use regex::Regex;
use tollgate_tree::Node;

use super::rules::{
    ADD_AFTER_ROUTER, AFTER_LAST, APPLY_TO, BOOTSTRAP, CAPTURE_PORT, CLUSTER_INBOUND, CONTEXT,
    EMPTY_PATCH, EXTENSION_OPERATION, FILTER_CLASS, FIRST_WITH_ANCHOR, GENERATED_ANCHOR,
    INSERT_ELSEWHERE, LISTENER_SCOPE, MANAGER_ANCHOR, MATCH_KIND, MERGE_EVERYWHERE,
    MERGE_LIST_SCOPE, METADATA_PATTERN, NO_ANCHOR, NO_MATCH, OLD_FILTER_NAME, OPERATION, PORT_NAME,
    REPLACE_SCOPE, ROUTES_OPERATION, SUB_FILTER, VANISHING_ANCHOR, VERSION_EXPRESSION,
    VERSION_TOO_LONG, VERSION_UNANCHORED, WAYPOINT,
};
use super::{Lint, fields, text_at, wasm};
use crate::istio::{CONNECTION_MANAGER, GENERATED, ROUTER, TCP_PROXY, VANISHING};

const APPLY_TOS: [&str; 11] = [
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
];
const OPERATIONS: [&str; 8] = [
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
];
const CONTEXTS: [&str; 5] = ["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"];
/// What an insertion has an order for.
const ORDERED: [&str; 4] = ["HTTP_FILTER", "NETWORK_FILTER", "HTTP_ROUTE", "LISTENER_FILTER"];
/// Names of v2, and those of v3.
const OLD_NAMES: [(&str, &str); 8] = [
    ("envoy.router", ROUTER),
    ("envoy.http_connection_manager", CONNECTION_MANAGER),
    ("envoy.tcp_proxy", TCP_PROXY),
    ("envoy.cors", "envoy.filters.http.cors"),
    ("envoy.fault", "envoy.filters.http.fault"),
    ("envoy.ext_authz", "envoy.filters.http.ext_authz"),
    ("envoy.grpc_http1_bridge", "envoy.filters.http.grpc_http1_bridge"),
    ("envoy.lua", "envoy.filters.http.lua"),
];
/// Where each part of the configuration is matched.
const MATCHES: [(&str, &[&str]); 3] = [
    ("listener", &["LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"]),
    ("routeConfiguration", &["ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"]),
    ("cluster", &["CLUSTER"]),
];
/// The ports of the listeners that capture what a sidecar sends and gets.
const CAPTURES: [i64; 2] = [15001, 15006];
/// The longest expression that Istio compiles.
const VERSION_LIMIT: usize = 1024;

/// A patch, as far as it can be read.
pub(super) struct Patch<'a> {
    pub(super) node: &'a Node,
    pub(super) apply_to: &'a str,
    operation: &'a str,
}

impl<'a> Patch<'a> {
    pub(super) fn read(node: &'a Node) -> Self {
        let operation = text_at(node, &["patch", "operation"]);
        Self { node, apply_to: text_at(node, &["applyTo"]), operation }
    }

    pub(super) fn context(&self) -> &'a str {
        match text_at(self.node, &["match", "context"]) {
            "" => "ANY",
            context => context,
        }
    }

    /// Whether what comes of it depends on when it is applied.
    pub(super) fn is_relative(&self) -> bool {
        let is_insertion = self.operation.starts_with("INSERT_");
        let is_change = matches!(self.operation, "REPLACE" | "REMOVE");
        (is_insertion || is_change) && ORDERED.contains(&self.apply_to)
    }

    /// What is put into the configuration.
    pub(super) fn value(&self) -> Option<&'a Node> {
        self.node.at(&["patch", "value"])
    }

    /// The filter beside which the patch stands, or that it changes: its name, and where that is said.
    pub(super) fn beside(&self) -> Option<(&'a str, &'a Node)> {
        let filter = self.node.at(&["match", "listener", "filterChain", "filter"])?;
        let node = if self.apply_to == "HTTP_FILTER" { filter.find("subFilter")? } else { filter };
        let name = text_at(node, &["name"]);
        (!name.is_empty()).then_some((name, node))
    }

    pub(super) fn is_filter(&self) -> bool {
        matches!(self.apply_to, "HTTP_FILTER" | "NETWORK_FILTER")
    }

    pub(super) fn check(&self, lint: &mut Lint) {
        self.check_names(lint);
        self.check_match(lint);
        match self.apply_to {
            "BOOTSTRAP" => lint.found(self.node, &BOOTSTRAP, "a patch of BOOTSTRAP"),
            "EXTENSION_CONFIG" if self.operation != "ADD" => {
                let what = format!("{} of an extension", self.operation);
                lint.found(self.operation_node(), &EXTENSION_OPERATION, what);
            }
            "ROUTE_CONFIGURATION"
                if matches!(self.operation, "ADD" | "REMOVE")
                    || self.operation.starts_with("INSERT_") =>
            {
                let what = format!("{} of ROUTE_CONFIGURATION", self.operation);
                lint.found(self.operation_node(), &ROUTES_OPERATION, what);
            }
            "CLUSTER" if self.operation == "ADD" && self.context() == "SIDECAR_INBOUND" => {
                lint.found(self.node, &CLUSTER_INBOUND, "a cluster for SIDECAR_INBOUND");
            }
            "HTTP_FILTER" | "NETWORK_FILTER" => self.check_place(lint),
            _ => {}
        }
        let needs_value = !matches!(self.operation, "REMOVE" | "");
        match self.value() {
            Some(value) => wasm::check(self, value, lint),
            None if needs_value => {
                lint.found(self.node, &EMPTY_PATCH, format!("{} of nothing", self.operation));
            }
            None => {}
        }
    }

    fn operation_node(&self) -> &'a Node {
        self.node.at(&["patch", "operation"]).unwrap_or(self.node)
    }

    fn check_names(&self, lint: &mut Lint) {
        fields::check(self.node, "a patch", fields::PATCH, lint);
        if let Some(change) = self.node.find("patch") {
            fields::check(change, "patch", fields::CHANGE, lint);
            if let Some(class) = change.find("filterClass") {
                lint.found(class, &FILTER_CLASS, "filterClass");
            }
        }
        let named = [
            (self.node.find("applyTo"), self.apply_to, &APPLY_TOS[..], &APPLY_TO),
            (self.node.at(&["patch", "operation"]), self.operation, &OPERATIONS[..], &OPERATION),
            (self.node.at(&["match", "context"]), self.context(), &CONTEXTS[..], &CONTEXT),
        ];
        for (node, name, known, rule) in named {
            if !known.contains(&name) {
                lint.found(node.unwrap_or(self.node), rule, format!("`{name}`"));
            }
        }
        let at = self.operation_node();
        if self.operation.starts_with("INSERT_") && !ORDERED.contains(&self.apply_to) {
            let is_known = APPLY_TOS.contains(&self.apply_to);
            let has_own_rule = ["EXTENSION_CONFIG", "ROUTE_CONFIGURATION"];
            if is_known && !has_own_rule.contains(&self.apply_to) {
                let what = format!("{} of {}", self.operation, self.apply_to);
                lint.found(at, &INSERT_ELSEWHERE, what);
            }
        }
        let is_filter = self.is_filter() || self.apply_to == "LISTENER_FILTER";
        if self.operation == "MERGE_AND_REPLACE_LIST" && is_filter {
            lint.found(at, &MERGE_LIST_SCOPE, format!("on {}", self.apply_to));
        }
        if self.operation == "REPLACE"
            && !self.is_filter()
            && !matches!(self.apply_to, "EXTENSION_CONFIG" | "LISTENER_FILTER")
        {
            lint.found(at, &REPLACE_SCOPE, format!("REPLACE of {}", self.apply_to));
        }
    }

    fn check_match(&self, lint: &mut Lint) {
        let Some(matched) = self.node.find("match") else { return };
        fields::check(matched, "match", fields::MATCH, lint);
        let waypoint = matched.find("waypoint");
        if let Some(at) =
            waypoint.or(matched.find("context").filter(|_| self.context() == "WAYPOINT"))
        {
            lint.found(at, &WAYPOINT, "a patch for waypoints");
        }
        for (part, apply_tos) in MATCHES {
            let is_elsewhere = MATCHES.iter().any(|(_, all)| all.contains(&self.apply_to))
                && !apply_tos.contains(&self.apply_to);
            if let Some(at) = matched.find(part).filter(|_| is_elsewhere) {
                lint.found(at, &MATCH_KIND, format!("{part} for {}", self.apply_to));
            }
        }
        for (name, value) in matched.at(&["proxy", "metadata"]).map_or(&[][..], Node::entries) {
            if value.text().is_ok_and(|text| text.contains('*')) {
                lint.found(value, &METADATA_PATTERN, format!("{name} of the proxy"));
            }
        }
        if let Some(port) = matched.at(&["listener", "portNumber"])
            && self.apply_to != "LISTENER"
            && port.number().is_ok_and(|port| CAPTURES.contains(&port))
        {
            lint.found(port, &CAPTURE_PORT, "the port of a listener that captures traffic");
        }
        if let Some(listener) = matched.find("listener") {
            fields::check(listener, "listener", fields::LISTENER, lint);
            if let Some(chain) = listener.find("filterChain") {
                fields::check(chain, "filterChain", fields::FILTER_CHAIN, lint);
            }
            if let Some(name) = listener.find("portName") {
                lint.found(name, &PORT_NAME, "portName of a listener");
            }
            if self.apply_to == "EXTENSION_CONFIG" {
                lint.found(listener, &LISTENER_SCOPE, "the listener of an extension");
            }
        }
        if let Some(name) = matched.at(&["routeConfiguration", "portName"])
            && self.context() != "GATEWAY"
        {
            lint.found(name, &PORT_NAME, "portName of routes of a sidecar");
        }
        if let Some(version) = matched.at(&["proxy", "proxyVersion"]) {
            let text = version.text().unwrap_or_default();
            if text.len() > VERSION_LIMIT {
                lint.found(version, &VERSION_TOO_LONG, format!("{} characters", text.len()));
            } else if Regex::new(text).is_err() {
                lint.found(version, &VERSION_EXPRESSION, format!("`{text}`"));
            } else if !text.starts_with('^') {
                lint.found(version, &VERSION_UNANCHORED, format!("`{text}`"));
            }
        }
    }

    fn check_place(&self, lint: &mut Lint) {
        let filter = self.node.at(&["match", "listener", "filterChain", "filter"]);
        let name = filter.map(|filter| text_at(filter, &["name"])).unwrap_or_default();
        let sub = filter.and_then(|filter| filter.find("subFilter"));
        let sub_name = sub.map(|sub| text_at(sub, &["name"])).unwrap_or_default();
        let at = self.operation_node();
        for (node, name) in [(filter, name), (sub, sub_name)] {
            let new = OLD_NAMES.iter().find(|(old, _)| *old == name);
            if let (Some(node), Some((old, new))) = (node, new) {
                lint.found(node, &OLD_FILTER_NAME, format!("{old}; it is {new}"));
            }
        }
        let is_old = |name: &str| OLD_NAMES.iter().any(|(old, _)| *old == name);
        if let Some(sub) = sub {
            if self.apply_to == "NETWORK_FILTER" {
                lint.found(sub, &SUB_FILTER, "a subFilter in a patch of NETWORK_FILTER");
            } else if sub_name.is_empty() {
                lint.found(sub, &SUB_FILTER, "a subFilter without a name");
            }
        }
        if let Some(filter) = filter
            && self.apply_to == "HTTP_FILTER"
            && name != CONNECTION_MANAGER
            && !is_old(name)
        {
            return lint.found(filter, &MANAGER_ANCHOR, format!("a filter of HTTP in `{name}`"));
        }
        if let Some((beside, node)) = self.beside().filter(|_| self.operation != "REMOVE") {
            if VANISHING.contains(&beside) {
                lint.found(node, &VANISHING_ANCHOR, format!("beside {beside}"));
            }
            if beside.starts_with(GENERATED) {
                lint.found(node, &GENERATED_ANCHOR, format!("beside {beside}"));
            }
        }
        let (beside, _) = self.beside().unwrap_or(("", self.node));
        match self.operation {
            "ADD" => lint.found(at, &ADD_AFTER_ROUTER, format!("ADD of {}", self.apply_to)),
            "INSERT_AFTER" if [ROUTER, TCP_PROXY].contains(&beside) => {
                lint.found(at, &AFTER_LAST, format!("INSERT_AFTER {beside}"));
            }
            "INSERT_BEFORE" | "INSERT_AFTER" if beside.is_empty() => {
                lint.found(at, &NO_ANCHOR, format!("{} nothing", self.operation));
            }
            "INSERT_FIRST" if !beside.is_empty() => {
                lint.found(at, &FIRST_WITH_ANCHOR, format!("INSERT_FIRST beside {beside}"));
            }
            "MERGE" if beside.is_empty() => {
                lint.found(at, &MERGE_EVERYWHERE, format!("MERGE into {}", self.apply_to));
            }
            "REPLACE" | "REMOVE" if beside.is_empty() => {
                lint.found(at, &NO_MATCH, format!("{} of nothing", self.operation));
            }
            _ => {}
        }
    }
}
