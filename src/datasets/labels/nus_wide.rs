//! NUS-WIDE: `ConceptsList/Concepts81.txt`, `ImageList/{Train,Test}Imagelist.txt`,
//! `Groundtruth/TrainTestLabels/Labels_<concept>_{Train,Test}.txt`, and photos under `images/` (many are gone from Flickr).

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use rayon::prelude::*;

use super::super::{compare_listed, thousands};
use super::{Item, LabelLayout, LabelSet, both, image, needed, once};
use crate::files;
use crate::folders::spelt;
use crate::lists::{found, inside, lines};

pub(super) fn open(dir: &Path) -> Result<LabelSet> {
    let concepts = lines(needed(&dir.join("ConceptsList/Concepts81.txt"))?)?;
    let classes: Vec<String> = concepts.into_iter().map(|(_, concept)| concept).collect();
    let mut notes = Vec::new();
    let (train, listed_train) = part(dir, "Train", &classes, &mut notes)?;
    let (test, listed_test) = part(dir, "Test", &classes, &mut notes)?;
    let counts = [
        ("concepts", "concepts", classes.len()),
        ("training images listed", "train_images", listed_train),
        ("test images listed", "test_images", listed_test),
    ];
    let difference = compare_listed("NUS-WIDE", "nus-wide", &counts);
    let gone = listed_train + listed_test - train.len() - test.len();
    if gone > 0 {
        notes.push(format!(
            "{} of {} listed images are not here (many are gone from Flickr): left out, so the set is not the published one",
            thousands(gone),
            thousands(listed_train + listed_test)
        ));
    }
    let train = once("TrainImagelist.txt", train, &mut notes);
    let test = once("TestImagelist.txt", test, &mut notes);
    both(&train, &test, &mut notes);
    let published = difference.is_none() && gone == 0;
    notes.extend(difference);
    Ok(LabelSet::new(LabelLayout::NusWide, classes, (train, test), notes, published))
}

/// The images of a part that are there, and how many are listed.
fn part(dir: &Path, part: &str, classes: &[String], notes: &mut Vec<String>) -> Result<(Vec<Item>, usize)> {
    let list = dir.join(format!("ImageList/{part}Imagelist.txt"));
    let name = |(line, name): (usize, String)| {
        inside(&name).map_err(|why| anyhow!("{}:{line}: {name:?} {why}: take the list of the authors", list.display()))
    };
    let names: Vec<String> = lines(needed(&list)?)?.into_iter().map(name).collect::<Result<_>>()?;
    let columns: Vec<(Vec<bool>, Vec<String>)> = classes
        .par_iter()
        .map(|class| {
            let path = dir.join(format!("Groundtruth/TrainTestLabels/Labels_{class}_{part}.txt"));
            column(&found(path), names.len(), &list)
        })
        .collect::<Result<_>>()?;
    notes.extend(columns.iter().flat_map(|(_, defects)| defects.iter().cloned()));
    let (images, flickr) = (dir.join("images"), dir.join("Flickr"));
    ensure!(images.is_dir() || !flickr.is_dir(), "{}: rename this folder of photos to images", flickr.display());
    spelt(dir, &["images"])?;
    let items: Vec<Option<Item>> = names
        .par_iter()
        .enumerate()
        .map(|(row, name)| {
            let labels = (0..classes.len() as u32).filter(|&c| columns[c as usize].0[row]).collect();
            crate::once::is_file(&found(images.join(name))).then(|| image(dir, format!("images/{name}"), labels))
        })
        .collect();
    let items: Vec<Item> = items.into_iter().flatten().collect();
    ensure!(
        !items.is_empty(),
        "none of the {} images of {} is in {}: unpack them there, as {} is named",
        thousands(names.len()),
        list.display(),
        images.display(),
        names.first().map_or("each", String::as_str)
    );
    Ok((items, names.len()))
}

/// A concept's 0 and 1, a line an image, and what else stands there, which counts as 0.
fn column(path: &Path, images: usize, list: &Path) -> Result<(Vec<bool>, Vec<String>)> {
    let (mut labels, mut defects) = (Vec::with_capacity(images), Vec::new());
    for (line, word) in lines(needed(path)?)? {
        let number = word.parse::<f64>().ok();
        labels.push(number == Some(1.));
        if number != Some(0.) && number != Some(1.) {
            // Known: line 78,372 of Labels_lake_Train.txt is -1130179.
            ensure!(defects.len() < 10, "{}:{}: {word:?} where 0 or 1 should be: fetch it again", path.display(), line);
            let name = files::name(path);
            defects.push(format!("{name}:{}: {word:?} where 0 or 1 should be: taken as 0", thousands(line)));
        }
    }
    ensure!(
        labels.len() == images,
        "{}: {} labels for the {} images of {}: take both from one source",
        path.display(),
        thousands(labels.len()),
        thousands(images),
        list.display()
    );
    Ok((labels, defects))
}
