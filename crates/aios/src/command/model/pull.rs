//! `aios model pull`

use std::fs;

use aios_models::{
    manifest::is_sha256,
    store::{Staging, StoreError, size_text},
};
use anyhow::{Result, bail};

use super::{
    add::{self, Facts},
    local::Local,
};
use crate::{
    cli::PullArgs,
    hub::{Download, FileFacts, Hub, Progress, Repository, cached, download},
};

/// The file that is to become a model.
struct Chosen {
    repository: Repository,
    file: String,
    size: u64,
    sha256: String,
}

pub fn run(args: &PullArgs, json: bool) -> Result<()> {
    let (name, revision) = parse(&args.repository)?;
    let expected = add::expected_hash(args.sha256.as_deref())?;
    let local = Local::open(&args.device)?;
    let hub = local.hub(args.retries)?;
    let chosen = if cached::is_offline() {
        choose_offline(name, revision, args.file.as_deref(), expected)?
    } else {
        choose(&hub, hub.repository(name, revision)?, args.file.as_deref(), expected)?
    };
    let id = args.id.clone().unwrap_or_else(|| add::id_of(&chosen.file));

    let staging = match local.store.stage(&id) {
        Err(StoreError::Taken { folder, .. }) if has(&local, &id, &chosen.sha256) => {
            eprintln!("{id} is there already, in {}", folder.display());
            return Ok(());
        }
        staged => staged?,
    };
    let present = resume(&staging, &chosen)?;
    if let Err(error) = local.store.check_room(chosen.size.saturating_sub(present), local.config.models.reserve.0) {
        // What came so far stays: it may be that room can be made.
        if present == 0 {
            staging.discard();
        }
        return Err(error.into());
    }
    if (present == 0 || cached::is_offline())
        && let Err(error) = take_cached(&staging, &chosen)
    {
        staging.discard();
        return Err(error);
    }
    let url = hub.file_url(&chosen.repository, &chosen.file);
    let what = format!("file {} of repository {}", chosen.file, chosen.repository.name);
    let wanted = Download { url: &url, what: &what, size: chosen.size, sha256: &chosen.sha256 };
    if let Err(error) = download(&hub, &wanted, &staging.file(), &mut Progress::new(&chosen.file)) {
        if error.can_resume() {
            bail!("{error}. The same command goes on where it ended");
        }
        staging.discard();
        return Err(error.into());
    }
    let Chosen { repository, file, sha256, .. } = chosen;
    let facts = Facts {
        sha256,
        source: format!("hub:{}/{file}", repository.name),
        revision: Some(repository.commit),
        licence: repository.licence,
    };
    add::finish(&local, staging, &id, facts, json)
}

/// Copies the file from where the hub's own tools have it, if they do. A copy that is not the promised file is left alone.
fn take_cached(staging: &Staging, chosen: &Chosen) -> Result<()> {
    let Some(path) = cached::file(&chosen.repository, &chosen.file) else { return offline_is_enough(chosen) };
    let target = staging.file();
    let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if size == chosen.size && add::copy(&path, &target)? == chosen.sha256 {
        eprintln!("{} is taken from {}", chosen.file, path.display());
        return Ok(());
    }
    eprintln!("{} is not the file that was promised: its size or its sha256 differs", path.display());
    if target.exists() {
        fs::remove_file(&target).map_err(|error| StoreError::io(&target, error))?;
    }
    offline_is_enough(chosen)
}

/// An error where the file would have to be downloaded and must not be.
fn offline_is_enough(chosen: &Chosen) -> Result<()> {
    if cached::is_offline() {
        bail!("HF_HUB_OFFLINE forbids to download {}, and {} has no good copy of it", chosen.file, cached::place());
    }
    Ok(())
}

/// `OWNER/NAME`, and the revision behind `@`.
fn parse(text: &str) -> Result<(&str, &str)> {
    let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let named = name.split_once('/').is_some_and(|(owner, repository)| part(owner) && part(repository));
    let revised = !revision.is_empty() && revision.split('/').all(part);
    if !named || !revised {
        bail!(
            "{text:?} is no repository: use OWNER/NAME or OWNER/NAME@REVISION, for example bartowski/SmolLM2-135M-Instruct-GGUF"
        );
    }
    Ok((name, revision))
}

fn choose(hub: &Hub, repository: Repository, file: Option<&str>, expected: Option<String>) -> Result<Chosen> {
    let file = pick(&repository, file)?;
    let facts = hub.facts(&repository, &file)?;
    check(repository, file, facts, expected)
}

/// Chooses of what the hub's own tools downloaded before.
fn choose_offline(name: &str, revision: &str, file: Option<&str>, expected: Option<String>) -> Result<Chosen> {
    let Some(repository) = cached::repository(name, revision) else {
        bail!(
            "HF_HUB_OFFLINE forbids to ask the hub, and there is no copy of {name} at revision {revision} in {}",
            cached::place()
        );
    };
    let file = pick(&repository, file)?;
    let size = repository.files.iter().find(|listed| listed.name == file).and_then(|listed| listed.size);
    let Some(size) = size else { bail!("{file} is a broken link in {}", cached::place()) };
    check(repository, file, FileFacts { size, sha256: None }, expected)
}

/// Compares what is known of a file's hash.
fn check(repository: Repository, file: String, facts: FileFacts, expected: Option<String>) -> Result<Chosen> {
    let listed = repository.files.iter().find(|listed| listed.name == file);
    let listed_hash = listed.and_then(|listed| listed.sha256.clone()).map(|hash| hash.to_ascii_lowercase());
    let listed_hash = listed_hash.filter(|hash| is_sha256(hash));
    if let (Some(listed), Some(told)) = (&listed_hash, &facts.sha256)
        && listed != told
    {
        bail!("the hub contradicts itself about {file}: it lists sha256 {listed} and tells {told}");
    }
    let told = facts.sha256.or(listed_hash);
    match (&told, &expected) {
        (Some(told), Some(expected)) if told != expected => {
            bail!("{file} at the hub has sha256 {told}, and --sha256 expects {expected}: nothing was downloaded");
        }
        (None, None) => {
            bail!("nobody tells the sha256 of {file}, so that it can't be checked: give one with --sha256");
        }
        _ => {}
    }
    let Some(sha256) = told.or(expected) else { bail!("no sha256 of {file} is known") };
    Ok(Chosen { repository, file, size: facts.size, sha256 })
}

/// The file that is meant: the one that is named, or the only one.
fn pick(repository: &Repository, wanted: Option<&str>) -> Result<String> {
    let models: Vec<_> =
        repository.files.iter().filter(|file| file.name.to_ascii_lowercase().ends_with(".gguf")).collect();
    let name = match (wanted, models.as_slice()) {
        (Some(wanted), models) if models.iter().any(|file| file.name == wanted) => wanted.to_owned(),
        (_, []) if repository.files.iter().any(|file| file.name.ends_with(".safetensors")) => bail!(
            "repository {} has no GGUF file, only safetensors, which aiOS does not load: look for a repository of the same model \
             whose name ends with GGUF",
            repository.name
        ),
        (_, []) => bail!("repository {} has no GGUF file", repository.name),
        (None, [only]) => only.name.clone(),
        (wanted, models) => {
            let problem = match wanted {
                Some(wanted) => format!("repository {} has no file {wanted}", repository.name),
                None => {
                    format!("repository {} has {} GGUF files: choose one with --file", repository.name, models.len())
                }
            };
            let line = |file: &&crate::hub::RepositoryFile| {
                format!("\n  {:>10}  {}", file.size.map_or_else(|| "?".to_owned(), size_text), file.name)
            };
            let list: String = models.iter().map(line).collect();
            bail!(
                "{problem}{list}\nQ4_1 and Q4_K_M are small and fast on CPUs, Q8_0 is the most exact of the fast ones; F16 and BF16 take two to four times as long, F32, Q2_K and Q3_K much longer"
            );
        }
    };
    if is_piece(&name) {
        bail!("{name} is one piece of a model in several files, which can't be loaded: choose a model in one file");
    }
    Ok(name)
}

/// Whether a file is one of several, as `NAME-00001-of-00003.gguf`.
fn is_piece(name: &str) -> bool {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    stem.rsplit_once("-of-")
        .is_some_and(|(head, count)| digits(count) && head.rsplit_once('-').is_some_and(|(_, number)| digits(number)))
}

/// Whether that model is here, with that very file.
fn has(local: &Local, id: &str, sha256: &str) -> bool {
    let installed = local.store.find(id).ok().and_then(|installed| installed.manifest);
    installed.is_some_and(|manifest| manifest.sha256 == sha256)
}

/// How much of the file is there from an earlier attempt. What belongs to another file is thrown away.
fn resume(staging: &Staging, chosen: &Chosen) -> Result<u64> {
    let (file, state) = (staging.file(), staging.state());
    let content = format!("{} {}\n", chosen.sha256, chosen.size);
    if fs::read_to_string(&state).is_ok_and(|written| written == content) {
        return Ok(fs::metadata(&file).map_or(0, |metadata| metadata.len()));
    }
    // The file goes before its description changes: a file of another model must never be gone on with.
    let write = || -> std::io::Result<()> {
        if file.exists() {
            fs::remove_file(&file)?;
        }
        fs::write(&state, &content)
    };
    write().map_err(|error| StoreError::io(&state, error))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_by_owner_and_name() {
        assert_eq!(parse("a/b").unwrap(), ("a/b", "main"));
        assert_eq!(parse("a/b.c-d@refs/pr/1").unwrap(), ("a/b.c-d", "refs/pr/1"));
        for bad in
            ["", "a", "a/", "/b", "a/b/c", "a/b@", "a/b@..", "../b", "a/b?c", "a b/c", "a/b@x//y", "https://h/a/b"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pieces_of_a_model_are_told_from_models() {
        assert!(is_piece("big-00001-of-00003.gguf"));
        assert!(!is_piece("one-of-us.gguf") && !is_piece("model-1-of-3.gguf"));
    }
}
