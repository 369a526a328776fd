//! `aios install --list`

use anyhow::Result;

use crate::install::{Candidate, Overwrite, Plan};

/// The disks for people, or as JSON.
pub fn of(candidates: &[Candidate], plan: &Plan, json: bool) -> Result<String> {
    if json {
        let list: Vec<_> = candidates.iter().map(|candidate| as_json(candidate, plan)).collect();
        return Ok(serde_json::to_string_pretty(&list)? + "\n");
    }
    let mut rows = vec![["DISK", "SIZE", "MODEL", "CONTENTS", ""].map(str::to_owned)];
    rows.extend(candidates.iter().map(|candidate| row(candidate, plan)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    if candidates.is_empty() {
        text += "no disks: none is plugged in, or a driver is missing\n";
    }
    Ok(text)
}

fn row(candidate: &Candidate, plan: &Plan) -> [String; 5] {
    let remark = match (candidate.refusal(plan, Overwrite::Nothing), candidate.refusal(plan, Overwrite::Anything)) {
        (None, _) => "can be installed to".into(),
        (Some(_), None) => "needs --force, which overwrites it".into(),
        (_, Some(refusal)) => refusal.to_string(),
    };
    [
        candidate.path.display().to_string(),
        format!("{:.1} GB", candidate.device.size as f64 / 1e9),
        candidate.model.clone().unwrap_or_else(|| "-".into()),
        contents(candidate),
        remark,
    ]
}

fn contents(candidate: &Candidate) -> String {
    match &candidate.contents {
        Ok(contents) => contents.to_string(),
        Err(error) => format!("can't be read: {error}"),
    }
}

fn as_json(candidate: &Candidate, plan: &Plan) -> serde_json::Value {
    let refusal = |overwrite| candidate.refusal(plan, overwrite).map(|refusal| refusal.to_string());
    serde_json::json!({
        "path": candidate.path,
        "size": candidate.device.size,
        "model": candidate.model,
        "removable": candidate.removable,
        "contents": contents(candidate),
        "refusal": refusal(Overwrite::Nothing),
        "refusal_with_force": refusal(Overwrite::Anything),
    })
}
