//! Who of a face set's people trains: nobody who is tested too, nobody who is excluded by name, nobody with too few images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::{FaceLayout, FaceSet};
use crate::datasets::{namesakes, persons, plural, thousands};
use crate::lists::{Record, composed, person, records, spellings};

impl FaceSet {
    /// What a person is called, as [`spellings`] has it: as the folder is, and as `names` has it for that.
    fn spelt<'a>(&'a self, person: i64, names: &'a BTreeMap<String, String>) -> impl Iterator<Item = String> + 'a {
        let folder = &self.people[person as usize - 1];
        [Some(folder), names.get(&composed(folder))].into_iter().flatten().flat_map(|name| spellings(name))
    }

    /// How many of the people whom `other` tests are called as somebody whom this set trains on, in words, where there are any;
    /// `names` and `theirs` are names by folders, as [`FaceSet::disjoint`] takes them.
    pub(crate) fn trains_names_of(
        &self,
        names: &BTreeMap<String, String>,
        other: &FaceSet,
        theirs: &BTreeMap<String, String>,
    ) -> Option<String> {
        let trained: BTreeSet<String> =
            persons(&*self.train).into_iter().flat_map(|person| self.spelt(person, names)).collect();
        let tested = persons(&other.test);
        let is_known = |person: &&i64| other.spelt(**person, theirs).any(|name| trained.contains(&name));
        let known: Vec<&i64> = tested.iter().filter(is_known).collect();
        let first = &other.people[**known.first()? as usize - 1];
        let (known, all) = (thousands(known.len()), thousands(tested.len()));
        Some(format!(
            "{known} of {all} people tested are called as people whom the run was trained on, as {first:?}: if they are the same, a score measures memory"
        ))
    }

    /// Training people leave who are in the test by the name of their folder (compared as [`spellings`] says), as the
    /// training and test identities of 1503.03832 are disjoint (Section 4); so do those whom `names` gives such a name for
    /// their folder, and those whom `exclude` names. How many is noted, and which of `exclude` is nobody's name.
    pub fn disjoint(mut self, names: &BTreeMap<String, String>, exclude: &[String]) -> FaceSet {
        let known = |person: i64| self.spelt(person, names);
        let mut gone: BTreeSet<String> = persons(&self.test).into_iter().flat_map(known).collect();
        let training = persons(&*self.train);
        let trained: BTreeSet<String> = training.iter().copied().flat_map(known).collect();
        // Of a row with more columns than a last name and a first name, the first may be the name, too.
        let named = |text: &str| {
            let (name, rest) = text.split_once(',').unwrap_or((text, ""));
            let row = rest.contains(',') || !rest.contains(char::is_alphabetic);
            let mut all = spellings(text);
            all.extend(row.then(|| person(name)));
            all
        };
        // Whose photo it is by LFW's names of photos, Ann_0003.jpg, where nobody is called that.
        let pictured = |text: &str| {
            let photo = text.split(',').next()?.trim();
            let (name, number) = photo.trim_end_matches(".jpg").rsplit_once('_')?;
            let photo = number.len() == 4 && number.bytes().all(|digit| digit.is_ascii_digit());
            (photo && named(text).is_disjoint(&trained)).then(|| person(name))
        };
        let asked = |text: &String| -> BTreeSet<String> { named(text).into_iter().chain(pictured(text)).collect() };
        let photos: Vec<&String> =
            exclude.iter().filter(|text| pictured(text).is_some_and(|name| trained.contains(&name))).collect();
        let photos = photos.first().map(|first| {
            let (photos, all) = (thousands(photos.len()), thousands(exclude.len()));
            format!("{photos} of {all} excluded names are photos' names: who is on them leaves, as on {first:?}")
        });
        let nobody: Vec<&String> = exclude.iter().filter(|name| asked(name).is_disjoint(&trained)).collect();
        let strangers = nobody.first().map(|first| {
            let (nobody, all) = (thousands(nobody.len()), thousands(exclude.len()));
            format!("{nobody} of {all} excluded names are nobody's in the training, as {first:?}")
        });
        let nameless: Vec<&String> = training
            .iter()
            .map(|&person| &self.people[person as usize - 1])
            .filter(|folder| !names.is_empty() && !names.contains_key(&composed(folder)))
            .collect();
        let nameless = nameless.first().map(|first| {
            let (some, all) = (thousands(nameless.len()), thousands(training.len()));
            format!("{some} of {all} training people have no name in the list of names, as {first:?}")
        });
        gone.extend(exclude.iter().flat_map(asked));
        let out: BTreeSet<i64> =
            training.iter().copied().filter(|&person| known(person).any(|name| gone.contains(&name))).collect();
        let before = self.train.len();
        Arc::make_mut(&mut self.train).retain(|photo| !out.contains(&photo.person));
        // Said where it was asked for, also when nobody had to leave.
        let asked = matches!(self.layout, FaceLayout::Lfw | FaceLayout::YoutubeFaces) || !exclude.is_empty();
        if asked || !out.is_empty() {
            self.notes.push(format!(
                "{} training {} ({} images) also in the test or excluded by name: left out of the training",
                thousands(out.len()),
                plural(out.len(), "person", "people"),
                thousands(before - self.train.len())
            ));
        }
        self.notes.extend(photos.into_iter().chain(strangers).chain(nameless));
        self.left = out.len();
        self.alike(names)
    }

    /// Notes whose folders on one side, training or test, have one name, by `names` too: they stay people of their own.
    pub fn alike(mut self, names: &BTreeMap<String, String>) -> FaceSet {
        for photos in [&*self.train, &self.test] {
            let folders = persons(photos).into_iter().map(|person| &self.people[person as usize - 1]);
            let named = folders.map(|folder| (&**folder, &**names.get(&composed(folder)).unwrap_or(folder)));
            self.notes.extend(namesakes(named));
        }
        self
    }

    /// Training people with fewer than `least` images leave the training photos; how many is noted. Those with one
    /// image that stay can only be negatives, which is noted too.
    ///
    /// # Errors
    /// Where no training person has two images, or fewer than two people are left.
    pub fn prune(&mut self, least: usize) -> Result<()> {
        let mut each: BTreeMap<i64, usize> = BTreeMap::new();
        self.train.iter().for_each(|photo| *each.entry(photo.person).or_default() += 1);
        let few = each.values().filter(|&&count| count < least).count();
        if few > 0 {
            Arc::make_mut(&mut self.train).retain(|photo| each[&photo.person] >= least);
            each.retain(|_, count| *count >= least);
            let word = plural(few, "person has", "people have");
            self.notes.push(format!("{} training {word} fewer than {least} images: left out", thousands(few)));
        }
        let single = each.values().filter(|&&count| count == 1).count();
        ensure!(
            each.len() >= 2 && single < each.len(),
            "{} has {} training {}, {single} of them with one image: triplets need a person with two images and another person; give other --data or a lower --min-images",
            self.name,
            each.len(),
            plural(each.len(), "person", "people")
        );
        if single > 0 {
            let word = plural(single, "person has", "people have");
            self.notes.push(format!(
                "{} training {word} one image: further negatives (--negatives), never anchor or positive",
                thousands(single)
            ));
        }
        Ok(())
    }

    /// Why nobody of the set can be trained on.
    pub(crate) fn untrainable(&self) -> String {
        let (people, name) = (self.people.len(), &self.name);
        if self.left > 0 {
            return format!(
                "{name} has nobody left to train on: all {} are also in the test, or excluded by name",
                thousands(self.left)
            );
        }
        if people >= 4 {
            return format!(
                "{name} has nobody to train on: the list in --data (pairs.txt, splits.txt) is of pairs to test, and so are all of its photos: give other --data, or move the list away"
            );
        }
        let word = plural(people, "person", "people");
        format!(
            "{name} has {people} {word} (one folder a person, DIR/NAME/*.jpg): at least 4 needed, or train and test folders, or a pairs.txt"
        )
    }

    /// As [`FaceSet::prune`].
    pub fn pruned(mut self, least: usize) -> Result<FaceSet> {
        self.prune(least)?;
        Ok(self)
    }
}

/// A list of names, a line each; what follows a comma or a tab is kept behind a comma; a `#` at the start or
/// between blanks begins a comment.
pub fn names(path: &Path) -> Result<Vec<String>> {
    Ok(table(path)?.into_iter().map(|row| row.fields.join(", ")).collect())
}

/// Folder to person: lines of `folder,name` (or a tab between), as VGGFace2's identity_meta.csv begins.
///
/// # Errors
/// One line that names the file and the line without a second column, or with another name for a folder.
pub fn folder_names(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for Record { line, fields } in table(path)? {
        let [folder, name, ..] = &fields[..] else { bail!("{}:{line}: expected FOLDER,NAME", path.display()) };
        let other = map.insert(folder.clone(), name.clone()).filter(|other| person(other) != person(name));
        if let Some(other) = other {
            bail!("{}:{line}: {folder} is {name} here and {other} above: leave one", path.display());
        }
    }
    Ok(map)
}

/// The rows of a list without its comments.
fn table(path: &Path) -> Result<Vec<Record>> {
    let mut rows = records(path)?;
    for row in &mut rows {
        // A name may have one too, as in "Ann #2".
        let comment = |field: &String| if field.starts_with('#') { Some(0) } else { field.find(" # ") };
        if let Some((at, from)) = row.fields.iter().enumerate().find_map(|(at, field)| Some((at, comment(field)?))) {
            row.fields.truncate(at + 1);
            let field = &mut row.fields[at];
            field.truncate(from);
            *field = field.trim().to_string();
        }
    }
    rows.retain(|row| !row.fields[0].is_empty());
    Ok(rows)
}
