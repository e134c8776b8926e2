//! Suggestions for misspelled names.

/// The candidate with the fewest edits to `name`, if these are at most a third of its letters.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|&(edits, candidate)| {
            let letters = candidate.chars().count();
            edits <= letters.div_ceil(3) && edits < letters
        })
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

/// Names in backticks, separated by commas.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What was expected instead of `found`: all names, and the nearest one if it is near.
pub(crate) fn expected<'a>(found: &str, names: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let all = listed(names.clone());
    match nearest(found, names) {
        Some(near) => format!("one of {all}; did you mean `{near}`?"),
        None => format!("one of {all}"),
    }
}
