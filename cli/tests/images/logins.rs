//! Where credentials come from, and how a registry is logged in to with them.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::proxy::{Message, Proxy};
use crate::registry::{Mode, Registry};
use crate::tokens::{IDENTITY_TOKEN, TokenService};
use crate::{Files, command, inspected, said};

fn auth(password: &str) -> String {
    STANDARD.encode(format!("alice:{password}"))
}

/// What a push of a module says, with some variables set, and something on standard input.
fn push(
    files: &Files,
    options: &[&str],
    variables: &[(&str, &str)],
    input: &str,
    image: &str,
) -> Result<(), String> {
    let module = files.module(1);
    let mut command = command(&["push", &module, image]);
    command.args(options).envs(variables.iter().copied()).write_stdin(input);
    let output = command.output().unwrap();
    let words = said(&output);
    for secret in ["secret", "wrong", &auth("secret"), IDENTITY_TOKEN] {
        assert!(!words.contains(secret), "{words}");
    }
    if output.status.success() { Ok(()) } else { Err(words) }
}

#[test]
fn credentials_come_from_where_people_keep_them() {
    let Some(registry) = Registry::start(Mode::Basic) else { return };
    let (files, at) = (Files::new(), registry.address());
    let image = format!("{at}/team/a:edge");
    let folder = |name: &str, file: &str, text: &str| {
        let folder = files.path(name);
        fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
        fs::write(folder.join(file), text).unwrap();
        folder.to_str().unwrap().to_owned()
    };
    let auths = |key: &str, password: &str| {
        json!({ "auths": { key: { "auth": auth(password) } } }).to_string()
    };

    let words = push(&files, &[], &[], "", &image).unwrap_err();
    assert!(words.contains("the registry wants a login, and there are no credentials"), "{words}");
    let user = "TOLLGATE_REGISTRY_USERNAME";
    let password = "TOLLGATE_REGISTRY_PASSWORD";
    push(&files, &[], &[(user, "alice"), (password, "secret")], "", &image).unwrap();
    let words = push(&files, &[], &[(user, "alice"), (password, "wrong")], "", &image).unwrap_err();
    assert!(words.contains("refuses the credentials from $TOLLGATE"), "{words}");
    let words = push(&files, &[], &[(user, "alice")], "", &image).unwrap_err();
    assert!(words.contains("set both"), "{words}");

    let stdin = ["--username", "alice", "--password-stdin"];
    push(&files, &stdin, &[(user, "alice"), (password, "wrong")], "secret\n", &image).unwrap();

    let docker = folder("docker", "config.json", &auths(&at, "secret"));
    push(&files, &[], &[("DOCKER_CONFIG", &docker)], "", &image).unwrap();
    let home = folder("home", ".docker/config.json", &auths(&format!("http://{at}/v2/"), "secret"));
    push(&files, &[], &[("HOME", &home)], "", &image).unwrap();
    let broken = folder("broken", "config.json", "{");
    let words = push(&files, &[], &[("DOCKER_CONFIG", &broken)], "", &image).unwrap_err();
    assert!(words.contains("broken/config.json"), "{words}");

    // Podman's, with the narrowest key that fits.
    let mut podman = json!({ "auths": { "other.test": { "auth": auth("wrong") } } });
    podman["auths"][&at] = json!({ "auth": auth("wrong") });
    podman["auths"][format!("{at}/team")] = json!({ "auth": auth("secret") });
    let runtime = folder("runtime", "containers/auth.json", &podman.to_string());
    push(&files, &[], &[("XDG_RUNTIME_DIR", &runtime)], "", &image).unwrap();
    let file = format!("{runtime}/containers/auth.json");
    let wrong = folder("wrong", "config.json", &auths(&at, "wrong"));
    push(&files, &[], &[("REGISTRY_AUTH_FILE", &file), ("DOCKER_CONFIG", &wrong)], "", &image)
        .unwrap();
}

#[test]
fn credential_helpers_are_asked() {
    let Some(registry) = Registry::start(Mode::Basic) else { return };
    let (files, at) = (Files::new(), registry.address());
    let image = format!("{at}/a:edge");
    let helper = |helpers: &Value, script: &str| {
        executable(&files, "docker-credential-test", script);
        fs::write(files.path("config.json"), helpers.to_string()).unwrap();
        let folder = files.path("");
        let path = format!("{}:/usr/bin:/bin", folder.display());
        push(
            &files,
            &[],
            &[("DOCKER_CONFIG", folder.to_str().unwrap()), ("PATH", &path)],
            "",
            &image,
        )
    };
    let one = json!({ "credHelpers": { &at: "test" } });
    // A helper for all registries is asked for this one, not for what is in it.
    let store = json!({ "credsStore": "test" });
    let knows = format!(
        r#"[ "$registry" = {at} ] || exit 1; echo '{{"Username":"alice","Secret":"secret"}}'"#
    );
    helper(&one, &knows).unwrap();
    helper(&store, &knows).unwrap();
    let words = helper(&one, "echo credentials not found in native keychain; exit 1").unwrap_err();
    assert!(words.contains("there are no credentials"), "{words}");
    let words = helper(&one, "echo the vault is sealed >&2; exit 1").unwrap_err();
    assert!(words.contains("docker-credential-test failed: the vault is sealed"), "{words}");
}

#[test]
fn tokens_are_fetched_where_the_registry_says() {
    let service = TokenService::start();
    let Some(registry) = Registry::start(Mode::Token(service.trust())) else { return };
    let files = Files::new();
    let image = format!("{}/team/a:edge", registry.address());
    let words = push(&files, &[], &[], "", &image).unwrap_err();
    assert!(words.contains("wants a login, and there are no credentials"), "{words}");
    let stdin = ["--username", "alice", "--password-stdin"];
    let words = push(&files, &stdin, &[], "wrong", &image).unwrap_err();
    assert!(words.contains("refuses the credentials from the command line: who?"), "{words}");
    push(&files, &stdin, &[], "secret", &image).unwrap();
    // Whoever reads needs a token, too, and no credentials for it.
    assert_eq!(inspected(&image)["layout"], "oci-compat");

    let with = |configuration: &Value| {
        fs::write(files.path("config.json"), configuration.to_string()).unwrap();
        let folder = files.path("");
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let variables = [("DOCKER_CONFIG", folder.to_str().unwrap()), ("PATH", &path)];
        push(&files, &[], &variables, "", &image)
    };
    let at = registry.address();
    let identity = |token: &str| json!({ "auths": { &at: { "identitytoken": token } } });
    with(&identity(IDENTITY_TOKEN)).unwrap();
    let words = with(&identity("forgotten")).unwrap_err();
    assert!(words.contains("config.json: who?"), "{words}");
    // How helpers hand out identity tokens.
    let helper = format!("echo '{{\"Username\":\"<token>\",\"Secret\":\"{IDENTITY_TOKEN}\"}}'");
    executable(&files, "docker-credential-test", &helper);
    with(&json!({ "credHelpers": { &at: "test" } })).unwrap();
}

#[test]
fn credentials_stay_with_the_registry() {
    let Some(registry) = Registry::start(Mode::Basic) else { return };
    let (files, seen) = (Files::new(), Arc::new(Mutex::new(Vec::new())));
    // Where clouds keep blobs: what opens it stands in the address.
    let store = Proxy::start(&registry.address(), {
        let seen = Arc::clone(&seen);
        move |mut request, on| {
            let authorization = request.header("authorization").map(str::to_owned);
            seen.lock().unwrap().push((request.line().to_owned(), authorization));
            write!(request.head, "authorization: Basic {}\r\n", auth("secret")).unwrap();
            Some(on(&request))
        }
    });
    let elsewhere = store.address();
    let front = Proxy::start(&registry.address(), move |request, on| {
        let host = request.header("host").unwrap().to_owned();
        let mut answer = on(&request);
        if request.is("POST", "/blobs/uploads/") {
            answer.head = answer.head.replace(&host, &elsewhere);
        }
        if request.is("GET", "/blobs/") && answer.line().contains("200") {
            let path = request.line().split(' ').nth(1).unwrap();
            let location = format!("location: http://{elsewhere}{path}\r\n");
            return Some(Message::answer("307 Temporary Redirect", &location, ""));
        }
        Some(answer)
    });
    let image = format!("{}/a:edge", front.address());
    let variables =
        [("TOLLGATE_REGISTRY_USERNAME", "alice"), ("TOLLGATE_REGISTRY_PASSWORD", "secret")];
    push(&files, &[], &variables, "", &image).unwrap();
    let mut pull = command(&["pull", &image, "--out", files.path("pulled.wasm").to_str().unwrap()]);
    let output = pull.envs(variables).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let seen = seen.lock().unwrap();
    let count = |method: &str| seen.iter().filter(|(line, _)| line.starts_with(method)).count();
    assert_eq!((count("PUT"), count("GET")), (2, 1), "{seen:?}");
    assert!(seen.iter().all(|(_, authorization)| authorization.is_none()), "{seen:?}");
}

fn executable(files: &Files, name: &str, script: &str) {
    let file = files.path(name);
    fs::write(&file, format!("#!/bin/sh\nread -r registry\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}
