//! What [`lint`](super::lint) looks for: a table.

/// A trap, why it is one, and the way out.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub id: &'static str,
    /// What comes of it.
    pub why: &'static str,
    /// What to write.
    pub fix: &'static str,
}

macro_rules! rules {
    ($($constant:ident $id:literal: $why:literal => $fix:literal;)*) => {
        $(pub(super) static $constant: Rule = Rule { id: $id, why: $why, fix: $fix };)*

        /// All of them.
        pub static RULES: &[&Rule] = &[$(&$constant),*];
    };
}

rules! {
    API_VERSION "api-version":
        "Kubernetes finds a resource by its version, and this kind has another one."
        => "write the version that the text names";
    BOTH_SELECTORS "both-selectors":
        "Istio takes one way of choosing workloads; the API server refuses both."
        => "keep one of them";
    TARGETS_ON_SIDECAR "targets-on-sidecar":
        "Istio ignores a policy with targetRefs for proxies that are no gateway of the Gateway API."
        => "choose sidecars by workloadSelector";
    TARGET_NAMESPACE "target-namespace":
        "A reference to another namespace is refused."
        => "leave the namespace out, and put the resource beside its target";
    TARGET_COUNT "target-count":
        "Istio takes at most 16 targets."
        => "write a second resource";
    TARGET_KIND "target-kind":
        "Istio attaches policies to a Gateway or a GatewayClass of the Gateway API, a Service, or a ServiceEntry; a reference to anything else is refused."
        => "name one of these, with its group";
    TARGET_CLASS "target-class":
        "A GatewayClass is followed in Istio's root namespace alone, and only for istio-waypoint; elsewhere the policy applies to nothing."
        => "put the resource into istio-system, or name the Gateway";
    SELECTOR_ON_WAYPOINT "selector-on-waypoint":
        "Waypoints ignore policies that choose them by labels alone."
        => "write targetRefs";
    SELECTOR_WILDCARD "selector-wildcard":
        "Labels are compared as they are; a wildcard is refused."
        => "write the label's value";
    WAYPOINT "waypoint":
        "Istio does not apply an EnvoyFilter to waypoints, whatever its schema says."
        => "use a WasmPlugin or a TrafficExtension with targetRefs";
    TARGET_CONTEXT "target-context":
        "Gateways take patches for GATEWAY or ANY only."
        => "write context: GATEWAY";
    PRIORITY_ZERO "priority-zero":
        "Resources of priority 0 are applied by age, so that the chain depends on which one was created first (IST0151)."
        => "set spec.priority to another number, in steps of 10";
    APPLY_TO "apply-to":
        "Istio knows no such part of the configuration."
        => "write one of the names that the schema lists";
    OPERATION "operation":
        "Istio knows no such operation."
        => "write one of the names that the schema lists";
    CONTEXT "context":
        "Istio knows no such context."
        => "write ANY, SIDECAR_INBOUND, SIDECAR_OUTBOUND or GATEWAY";
    BOOTSTRAP "bootstrap":
        "No code of Istio applies patches of BOOTSTRAP any more."
        => "use an annotation with a bootstrap override";
    ADD_AFTER_ROUTER "add-after-router":
        "ADD puts the filter at the end of its chain, after the router or the proxy, and Envoy refuses the listener: the terminal filter must be the last."
        => "write operation: INSERT_BEFORE, with the router as subFilter";
    AFTER_LAST "after-last":
        "Nothing may stand after the router or the proxy of TCP; Envoy refuses the listener."
        => "write INSERT_BEFORE";
    NO_ANCHOR "no-anchor":
        "Without a filter to stand beside, INSERT_BEFORE is the front of the chain and INSERT_AFTER its end, after the router."
        => "name the filter, or write INSERT_FIRST";
    FIRST_WITH_ANCHOR "first-with-anchor":
        "INSERT_FIRST puts the filter to the front of every chain; whether the filter that is named is in it is not looked at."
        => "leave the name out, or write INSERT_BEFORE";
    VANISHING_ANCHOR "vanishing-anchor":
        "This filter is in the chain only while some policy asks for it. Without it the patch does nothing, in silence."
        => "stand before envoy.filters.http.router, or write INSERT_FIRST";
    GENERATED_ANCHOR "generated-anchor":
        "Istio names the filters of its plugins by itself, and otherwise from 1.30 on; then the patch does nothing, in silence."
        => "stand before envoy.filters.http.router, or order plugins by phase and priority";
    UNKNOWN_ANCHOR "unknown-anchor":
        "Istio builds no such filter into its chains, and no patch here adds it; then this one does nothing, in silence."
        => "stand before envoy.filters.http.router, or write INSERT_FIRST";
    OLD_FILTER_NAME "old-filter-name":
        "Names are compared as they are, and Istio builds its chains with the names of v3; the patch does nothing, in silence."
        => "write the name that the text names";
    MANAGER_ANCHOR "manager-anchor":
        "Filters of HTTP are in the connection manager: beside another filter the patch does nothing, and with a subFilter Istio refuses it."
        => "write filter.name: envoy.filters.network.http_connection_manager, and the filter of HTTP as subFilter";
    SUB_FILTER "sub-filter":
        "A subFilter belongs to patches of HTTP_FILTER, and needs a name."
        => "name the filter, in a patch of HTTP_FILTER";
    NO_MATCH "no-match":
        "REPLACE and REMOVE without a filter are skipped."
        => "name the filter that is meant";
    MERGE_EVERYWHERE "merge-everywhere":
        "MERGE without a filter is merged into every filter of the chain, whatever its type."
        => "name the filter that is meant";
    REPLACE_SCOPE "replace-scope":
        "REPLACE works on filters only (IST0152)."
        => "write MERGE, or ADD and REMOVE";
    FILTER_CLASS "filter-class":
        "No code of Istio looks at filterClass."
        => "place the filter by operation and match";
    INSERT_ELSEWHERE "insert-elsewhere":
        "INSERT_* has an order for filters, routes and the like only; here it is taken as ADD."
        => "write ADD";
    MERGE_LIST_SCOPE "merge-list-scope":
        "MERGE_AND_REPLACE_LIST is not there for filters."
        => "write MERGE, or REPLACE";
    ROUTES_OPERATION "routes-operation":
        "Of patches of ROUTE_CONFIGURATION only MERGE is followed; all others are skipped (IST0153, IST0154)."
        => "write MERGE, or patch VIRTUAL_HOST or HTTP_ROUTE";
    EXTENSION_OPERATION "extension-operation":
        "Of patches of EXTENSION_CONFIG only ADD is followed; all others are ignored."
        => "write operation: ADD";
    PORT_NAME "port-name":
        "portName is not implemented: the patch is applied to all ports."
        => "write portNumber";
    CAPTURE_PORT "capture-port":
        "On the listeners that capture traffic, portNumber is the port that a chain is for; with the listener's own port the patch meets no traffic."
        => "write the port of the workload, or leave it out";
    MATCH_KIND "match-kind":
        "Istio refuses a patch that is matched by another part of the configuration than it changes."
        => "match filters and chains by listener, routes by routeConfiguration, clusters by cluster";
    METADATA_PATTERN "metadata-pattern":
        "Metadata of proxies is compared as it is; a pattern matches none."
        => "write the whole value";
    LISTENER_SCOPE "listener-scope":
        "Istio does not look at the listener of an extension: whoever asks for the name gets it."
        => "leave it out; the patch of the filter says where";
    VERSION_TOO_LONG "version-too-long":
        "A proxyVersion of more than 1024 characters never matches."
        => "write a shorter expression";
    VERSION_UNANCHORED "version-unanchored":
        "The expression may match anywhere in the version: `1.3` is also in 1.13."
        => "begin it with ^";
    VERSION_EXPRESSION "version-expression":
        "Istio compiles proxyVersion as an expression of RE2, and this is none."
        => "correct the expression";
    CLUSTER_INBOUND "cluster-inbound":
        "Clusters are added for what sidecars send and for gateways only; with this context there is none, and calls of the filter fail."
        => "write context: SIDECAR_OUTBOUND; the table of clusters is one for the proxy";
    EMPTY_PATCH "empty-patch":
        "There is nothing to put into the configuration."
        => "write patch.value";
    MISSING_RBAC_TYPE "missing-rbac-type":
        "When the module cannot be fetched, Istio's agent puts an RBAC filter in its place. A filter that does not list this type refuses it, and answers every request with 500."
        => "add the type that the text names to type_urls";
    MISSING_WASM_TYPE "missing-wasm-type":
        "The filter takes no configuration of a type that it does not list: every request gets 500."
        => "add the type of the extension to type_urls";
    UNKNOWN_EXTENSION "unknown-extension":
        "The filter asks for a name that no patch here adds; the listener waits for it, or answers with 500."
        => "give both the same name";
    UNASKED_EXTENSION "unasked-extension":
        "No filter here asks for this name, so that Istio does not send it."
        => "give both the same name";
    DUPLICATE_EXTENSION "duplicate-extension":
        "Names over ECDS are one space for all of a proxy; which of two it gets is not said."
        => "give each its own name";
    NAME_WITHOUT_NAMESPACE "name-without-namespace":
        "Names over ECDS are one space for all of a proxy: a resource of another namespace may have the same."
        => "write NAMESPACE/NAME";
    WARMING "warming":
        "Without initial_fetch_timeout: 0s the listener goes live after 15 seconds without the filter, and answers every request with 500."
        => "write initial_fetch_timeout: 0s";
    NOT_OVER_ADS "not-over-ads":
        "Istio's agent replaces modules only in what comes over its own stream."
        => "write config_source: { ads: {}, resource_api_version: V3 }";
    NO_DEFAULT_CONFIG "no-default-config":
        "apply_default_config_without_warming needs a default_config; Envoy refuses the listener."
        => "add default_config, or leave the key out";
    DEFAULT_CONFIG_TYPE "default-config-type":
        "A default_config of a type that type_urls does not list is refused."
        => "add its type to type_urls";
    TYPED_AND_DISCOVERED "typed-and-discovered":
        "A filter has its configuration here, or over ECDS; Envoy refuses both."
        => "keep one of them";
    INLINE_REMOTE "inline-remote":
        "Here Envoy itself fetches the module, which may crash it (envoy#25052); Istio's agent fetches for extensions over ECDS only."
        => "put the configuration into a patch of EXTENSION_CONFIG";
    INLINE_IMAGE "inline-image":
        "Envoy cannot pull images, and Istio's agent does so for extensions over ECDS only: the module never comes."
        => "put the configuration into a patch of EXTENSION_CONFIG";
    NOT_REWRITTEN "not-rewritten":
        "Istio's agent opens TypedStruct of udpa, not of xds: the module is not fetched."
        => "write the message itself, or udpa.type.v1.TypedStruct";
    UNKNOWN_TYPE "unknown-type":
        "Istio refuses a message whose type it does not know, and Envoy too."
        => "write type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm, or that of network";
    BLOCKED_ADDRESS "blocked-address":
        "Istio's agent opens no connections to link-local addresses and to those of clouds' metadata: the module never comes."
        => "name the registry or server by another address";
    NO_TIMEOUT "no-timeout":
        "Without a timeout Istio's agent takes 5 seconds for manifest and module together."
        => "write http_uri.timeout: 30s";
    UNPINNED "unpinned":
        "A tag can be moved: what runs is not what was tested, and a proxy that has pulled it once does not see the new one."
        => "pin the image by @sha256:, or the module by sha256";
    DIGEST_MISMATCH "digest-mismatch":
        "The reference and sha256 name different digests: the agent refuses whatever it pulls."
        => "write the digest of the manifest in both places";
    BAD_DIGEST "bad-digest":
        "A digest is 64 digits of 0-9 and a-f."
        => "write the digest that `tollgate push` prints";
    SECRET_IN_CLEAR "secret-in-clear":
        "Only of plugins does Istio look up the secret; here its text stands in the resource, for everybody who may read it."
        => "mount a docker configuration into istio-proxy and name it in DOCKER_CONFIG, or use a WasmPlugin";
    NEVER_PULLED_AGAIN "never-pulled-again":
        "With Always the agent pulls again when ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION changes, and here it never does."
        => "set it to the digest of the image";
    PULL_POLICY "pull-policy":
        "There is no such policy of pulling images."
        => "write IfNotPresent or Always";
    NO_CODE "no-code":
        "Neither a local nor a remote module is named: the agent refuses the whole answer."
        => "write code.local or code.remote";
    NO_CLUSTER "no-cluster":
        "Envoy refuses an http_uri without a cluster, also where nobody looks at it."
        => "write cluster: _";
    INLINE_TOO_LARGE "inline-too-large":
        "etcd stores objects of at most 1.5 MiB."
        => "deliver the module as an image or a file";
    FAIL_OPEN "fail-open":
        "fail_open is deprecated, and refused beside failure_policy."
        => "write failure_policy: FAIL_OPEN";
    NO_FAILURE_POLICY "no-failure-policy":
        "Envoy's default has changed between versions."
        => "write failure_policy";
    NO_VM_ID "no-vm-id":
        "Filters with the same vm_id share what they store, and those without one share it among themselves."
        => "write vm_id: NAMESPACE/NAME";
    SHARED_VM_ID "shared-vm-id":
        "Filters with the same vm_id share what they store."
        => "give each its own vm_id";
    RUNTIME "runtime":
        "Envoy is built with V8 alone."
        => "write runtime: envoy.wasm.runtime.v8";
    CAPABILITY_PLACE "capability-place":
        "The field of the plugin is deprecated."
        => "write it in vm_config";
    CONFIGURATION_TYPE "configuration-type":
        "The plugin would get the bytes of a protocol buffer."
        => "write google.protobuf.StringValue with JSON text";
    TRAFFIC "traffic":
        "A filter of TCP does not stand in a chain of HTTP, nor one of HTTP in a chain of TCP; Envoy refuses the listener."
        => "write the type of the chain";
    UNKNOWN_FIELD "unknown-field":
        "istiod drops fields that it does not know, in silence."
        => "correct the name";
    REFUSED_FIELD "refused-field":
        "A TypedStruct is read strictly: over ECDS the agent refuses the whole answer, and no filter of the proxy is updated."
        => "correct the name";
    DUPLICATE_VARIABLE "duplicate-variable":
        "Envoy refuses a variable that is both in host_env_keys and in key_values."
        => "keep one of them";
    NO_URL "no-url":
        "A plugin without a module is refused."
        => "write url";
    URL_SCHEME "url-scheme":
        "A module is at oci://, https://, http:// or file://."
        => "write one of them";
    VERIFICATION_KEY "verification-key":
        "verificationKey has never been implemented: nothing is verified."
        => "pin the digest, and verify signatures before";
    TARGET_REF "target-ref":
        "targetRef is hidden and superseded."
        => "write targetRefs";
    HOST_VALUE "host-value":
        "A variable of the host has no value of its own; it is refused."
        => "leave the value out, or write valueFrom: INLINE";
    NO_FAIL_STRATEGY "no-fail-strategy":
        "What becomes of requests when the plugin fails should not hang on a default."
        => "write failStrategy";
    WASM_AND_LUA "wasm-and-lua":
        "An extension is either of Wasm or of Lua."
        => "keep one of them";
    EMPTY_CONFIG "empty-config":
        "An empty pluginConfig does not reach the plugin: it gets no configuration at all."
        => "leave it out, or say something";
    PHASE "phase":
        "Istio knows no such phase."
        => "write AUTHN, AUTHZ or STATS";
    FETCHED_BY_KUMA "fetched-by-kuma":
        "Kuma fetches no modules, and has no cluster for them."
        => "mount the file, and write code.local.filename";
    PATCH_TEXT "patch-text":
        "Kuma takes the patch as a text of YAML."
        => "write value: |";
    GATEWAY_PLACE "gateway-place":
        "Envoy Gateway looks for it elsewhere, and its API refuses it here."
        => "move it to the place that the text names";
}
