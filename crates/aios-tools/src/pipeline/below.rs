//! What lies below the folders of a call: who may take it, and which of it is denied.
//!
//! A right to a folder is none to what lies in it. So a call that takes one as a whole, or looks through it, needs both.
//!
//! A folder is shown with all below it, and a capability for the folder says nothing of what is denied further down. So
//! that is hidden from the call: its sandbox shows an empty folder or file in its place, or the same thing read-only
//! where only writing is denied.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aios_policy::{Capability, Policy, capability::CapabilityError};

use super::{Refusal, Stage};
use crate::access::Access;

/// Most files and folders of one call that are hidden; where there are more, it is refused.
const HIDDEN_MAX: usize = 1024;

/// Adds the capabilities for all that is below the folders that `access` takes as a whole, as the disk is now: those that
/// it has for the folders themselves.
pub(super) fn extend(access: &mut Access) {
    for folder in access.whole.iter().filter(|path| is_folder(path)) {
        for action in ["read", "write"] {
            let capability = format!("fs:{action}:{}", folder.display());
            if access.capabilities.contains(&capability) && !access.below.contains(&capability) {
                access.below.push(capability);
            }
        }
    }
}

/// The capabilities for all that is below the folders that `access` looks through, as the disk is now.
pub(super) fn through(access: &Access) -> Result<Vec<Capability>, CapabilityError> {
    let folders = access.through.iter().filter(|path| is_folder(path));
    folders.map(|folder| Capability::below("fs", "read", &folder.to_string_lossy())).collect()
}

/// What is denied to one of `agents` below the folders that `access` shows, as the disk is now.
///
/// A call that moves, copies or removes a folder as a whole is refused where any of it is denied: half of it would stay.
/// So is one into a folder below which a line names things by more than the end of their path, because whoever looked for
/// them would have to look through everything.
pub(super) fn hide(policy: &Policy, agents: &[&str], access: &mut Access) -> Result<(), Refusal> {
    let mut hidden = Vec::new();
    for path in access.whole.iter().filter(|path| is_folder(path)) {
        for action in ["read", "write"] {
            if let Some(line) = denials(policy, agents, action, path).first() {
                return Err(refused(path, line, "name what is in the folder and is not denied"));
            }
        }
    }
    let mut fixed = Vec::new();
    for path in access.read.iter().chain(&access.write) {
        hidden.extend(denied_below(policy, agents, "read", path)?);
    }
    for path in &access.write {
        fixed.extend(denied_below(policy, agents, "write", path)?);
    }
    // Who writes to a folder is shown the folder, though it can't be read.
    hidden.retain(|place| !access.write.contains(place));
    fixed.retain(|place| !access.write.contains(place) && !hidden.iter().any(|hidden| place.starts_with(hidden)));
    for list in [&mut hidden, &mut fixed] {
        // What lies in something that is hidden is not there to be hidden. Paths follow those that they begin with.
        list.sort();
        list.dedup_by(|inner, outer| inner.starts_with(outer));
    }
    if hidden.len() + fixed.len() > HIDDEN_MAX {
        let text = format!("more than {HIDDEN_MAX} files and folders below are denied by the policy");
        return Err(Refusal::new(Stage::Capability, text, "name a folder further down"));
    }
    (access.hidden, access.fixed) = (hidden, fixed);
    Ok(())
}

/// What is denied below `folder`, or all of it.
fn denied_below(policy: &Policy, agents: &[&str], action: &str, folder: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let mut found = Vec::new();
    if is_folder(folder) {
        for line in denials(policy, agents, action, folder) {
            found.extend(places(line, action, folder)?.into_iter().filter(|place| place.starts_with(folder)));
        }
    }
    Ok(found)
}

/// The lines that deny something below `folder`.
fn denials<'a>(policy: &'a Policy, agents: &[&str], action: &str, folder: &Path) -> Vec<&'a Capability> {
    let below = folder.to_str().and_then(|folder| Capability::below("fs", action, folder).ok());
    let Some(below) = below else { return Vec::new() };
    agents.iter().flat_map(|agent| policy.denials(agent)).filter(|line| line.overlaps(&below)).collect()
}

/// What a line names below `folder`: a path, all below a path, or names in one folder.
fn places(line: &Capability, action: &str, folder: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let resource = line.resource();
    let path = resource.strip_suffix("/**").unwrap_or(&resource);
    let is_plain = |text: &str| !text.contains(['*', '\\']);
    if is_plain(path) {
        return Ok(Some(PathBuf::from(path)).into_iter().filter(|path| exists(path)).collect());
    }
    let parent = path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| is_plain(parent));
    let Some(parent) = parent.filter(|parent| Path::new(parent).starts_with(folder)) else {
        return Err(refused(folder, line, "name the very file, or a folder that the line is not about"));
    };
    let unread = |error: std::io::Error| {
        let text = format!("{parent}: can't be looked through for what the policy denies there: {error}");
        Refusal::new(Stage::Capability, text, "")
    };
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unread)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unread)?.path();
        // A name that is no text can't be named by a line either, but its replacement might.
        let named = |pattern: Capability| pattern.overlaps(line);
        let text = path.to_string_lossy();
        let is_denied = Capability::exact("fs", action, &text).is_ok_and(named)
            || Capability::below("fs", action, &text).is_ok_and(named);
        if is_denied && exists(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Links are neither followed by tools nor anything to hide.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink())
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn refused(folder: &Path, line: &Capability, hint: &str) -> Refusal {
    let text = format!("{}: the policy denies something below it ({line})", folder.display());
    Refusal::new(Stage::Capability, text, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().expect("tempdir");
        let base = folder.path().to_str().expect("UTF-8").to_owned();
        for name in ["private/deep", "www", "open/private"] {
            fs::create_dir_all(folder.path().join(name)).expect("mkdir");
        }
        for name in ["shadow", "shadow-", "hosts"] {
            fs::write(folder.path().join(name), "x").expect("write");
        }
        (folder, base)
    }

    fn policy(deny: &[String]) -> Policy {
        let text = format!("deny = {deny:?}\n[agents.task]\nuids = [1]\ncapabilities = [\"fs:*:/**\"]\n");
        Policy::from_layers(&[aios_policy::policy::Layer { path: "p.toml".into(), text }]).expect("policy")
    }

    fn hidden(deny: &[String], mut access: Access) -> Result<(Vec<String>, Vec<String>), Stage> {
        hide(&policy(deny), &["task"], &mut access).map_err(|refusal| refusal.stage)?;
        let texts = |paths: Vec<PathBuf>| paths.iter().map(|path| path.display().to_string()).collect();
        Ok((texts(access.hidden), texts(access.fixed)))
    }

    fn reading(path: &str) -> Access {
        Access { read: vec![path.into()], ..Access::default() }
    }

    fn writing(path: &str) -> Access {
        Access { write: vec![path.into()], ..Access::default() }
    }

    #[test]
    fn who_takes_a_folder_needs_the_right_to_all_below_and_for_a_file_the_right_to_that() {
        let (_kept, base) = tree();
        let wanted = |action: &str, name: &str| {
            let path = format!("{base}/{name}");
            let mut access = Access::needs(format!("fs:{action}:{path}"));
            access.whole.push(path.into());
            extend(&mut access);
            let wanted = access.wanted().expect("capabilities").iter().map(ToString::to_string).collect::<Vec<_>>();
            wanted.into_iter().map(|capability| capability.replace(&base, "")).collect::<Vec<_>>()
        };
        assert_eq!(wanted("read", "www"), ["fs:read:/www", "fs:read:/www/**"]);
        assert_eq!(wanted("write", "www"), ["fs:write:/www", "fs:write:/www/**"]);
        assert_eq!(wanted("read", "hosts"), ["fs:read:/hosts"]);
        assert_eq!(wanted("write", "gone"), ["fs:write:/gone"]);
    }

    #[test]
    fn who_looks_through_a_folder_needs_the_right_to_all_below() {
        let (_kept, base) = tree();
        let wanted = |name: &str| {
            let path = PathBuf::from(format!("{base}/{name}"));
            let access = Access { through: vec![path], ..Access::default() };
            through(&access).expect("capabilities").iter().map(|c| c.to_string().replace(&base, "")).collect::<Vec<_>>()
        };
        assert_eq!(wanted("www"), ["fs:read:/www/**"]);
        assert!(wanted("hosts").is_empty() && wanted("gone").is_empty());
    }

    #[test]
    fn what_is_denied_below_a_folder_is_hidden_and_nothing_else() {
        let (_kept, base) = tree();
        let deny =
            [format!("fs:read:{base}/private/**"), format!("fs:*:{base}/shadow*"), format!("fs:write:{base}/www")];
        let masks = ["private", "shadow", "shadow-"].map(|name| format!("{base}/{name}")).to_vec();
        assert_eq!(hidden(&deny, reading(&base)), Ok((masks.clone(), vec![])));
        assert_eq!(hidden(&deny, writing(&base)), Ok((masks, vec![format!("{base}/www")])));
        assert_eq!(hidden(&deny, reading(&format!("{base}/open"))), Ok((vec![], vec![])));
        // A file has nothing below it.
        assert_eq!(hidden(&deny, reading(&format!("{base}/hosts"))), Ok((vec![], vec![])));
    }

    #[test]
    fn what_is_there_no_more_is_not_hidden() {
        let (_kept, base) = tree();
        let deny = [format!("fs:*:{base}/gone/**"), format!("fs:*:{base}/gone/x*")];
        assert_eq!(hidden(&deny, reading(&base)), Ok((vec![], vec![])));
    }

    #[test]
    fn a_folder_is_not_taken_as_a_whole_if_part_of_it_is_denied() {
        let (_kept, base) = tree();
        let deny = [format!("fs:write:{base}/private/deep/**")];
        let whole = |path: String| Access { whole: vec![path.into()], ..Access::default() };
        assert_eq!(hidden(&deny, whole(base.clone())), Err(Stage::Capability));
        assert_eq!(hidden(&deny, whole(format!("{base}/private"))), Err(Stage::Capability));
        assert_eq!(hidden(&deny, whole(format!("{base}/www"))), Ok((vec![], vec![])));
        assert_eq!(hidden(&deny, whole(format!("{base}/hosts"))), Ok((vec![], vec![])));
    }

    #[test]
    fn a_line_that_could_be_about_anything_below_refuses_the_folder() {
        let (_kept, base) = tree();
        let deny = [format!("fs:*:{base}/**/private/**")];
        assert_eq!(hidden(&deny, reading(&base)), Err(Stage::Capability));
        assert_eq!(hidden(&deny, reading(&format!("{base}/hosts"))), Ok((vec![], vec![])));
    }
}
