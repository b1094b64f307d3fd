//! Lists as people's programs write them: CSV with quotes whatever separates its columns, ends its lines or encodes its
//! letters; JSON with NaN; paths with backslashes; people's names in several spellings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context, Result, anyhow, ensure};
use csv::{ReaderBuilder, StringRecord};
use serde::de::DeserializeOwned;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use crate::once;
use crate::say::note;

/// A text file: UTF-8 or UTF-16 by its byte order mark, else what Windows calls ANSI. Lines end in `\n`, and accents are
/// composed, so that a name is one however it is written.
///
/// # Errors
/// One line that names the file: it cannot be read, or is no text.
pub fn text(path: &Path) -> Result<String> {
    let bytes = once::list(path).map_err(|error| anyhow!("cannot read {}: {error}", path.display()))?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text),
        Err(other) => {
            let (text, encoding, _) = encoding_rs::WINDOWS_1252.decode(other.as_bytes());
            static SAID: Once = Once::new();
            if encoding == encoding_rs::WINDOWS_1252 && !text.contains('\0') {
                let name = path.display();
                SAID.call_once(|| note(format!("{name} is not in UTF-8: read as Windows-1252, as all such lists are")));
            }
            text.into_owned()
        }
    };
    ensure!(!text.contains('\0'), "{}: not a text file", path.display());
    let text = if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text };
    Ok(if text.is_ascii() { text } else { composed(&text) })
}

/// The lines of a list of one column that are not empty, with their numbers, without blanks around.
pub fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let text = text(path)?;
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim().to_string()));
    Ok(lines.filter(|(_, line)| !line.is_empty()).collect())
}

/// A row of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The number of its line, from 1.
    pub line: usize,
    /// Its fields, without blanks around.
    pub fields: Vec<String>,
}

/// The rows of a CSV file that are not empty, each with as many fields as it has; see [`parted`].
///
/// # Errors
/// As [`text`]; a quote that does not close on its line.
pub fn records(path: &Path) -> Result<Vec<Record>> {
    Ok(parted(path)?.1)
}

/// As [`records`], with what parts the fields. The first line says it, as Excel's `sep=;`; else the first that has tabs, semicolons
/// or commas outside quotes: where several, the first of these that every line has equally often.
pub fn parted(path: &Path) -> Result<(char, Vec<Record>)> {
    let mut text = text(path)?;
    let told = text.lines().next().and_then(|line| line.strip_prefix("sep=")).filter(|mark| mark.len() == 1);
    let told = told.and_then(|mark| mark.chars().next());
    if told.is_some() {
        text.replace_range(.."sep=;".len(), "");
    }
    let guessed = || {
        let count = |line: &str, mark| line.split('"').step_by(2).map(|outside| outside.matches(mark).count()).sum();
        let mut counts = text.lines().map(|line| ['\t', ';', ','].map(|mark| (mark, count(line, mark))));
        let first = counts.find(|counts| counts.iter().any(|(_, count): &(char, usize)| *count > 0))?;
        let mut here = first.into_iter().filter(|(_, count)| *count > 0);
        let all: Vec<[(char, usize); 3]> = counts.filter(|counts| counts.iter().any(|(_, count)| *count > 0)).collect();
        let even = here.clone().find(|mark| all.iter().all(|counts| counts.contains(mark)));
        even.or_else(|| here.next()).map(|(mark, _)| mark)
    };
    let mark = told.or_else(guessed).unwrap_or(',');
    // Blanks before an opening quote, which others write, would make it a letter.
    let close = |(place, part): (usize, &str)| {
        let cut = part.trim_end_matches(' ');
        let opens = place % 2 == 0 && (cut.is_empty() || cut.ends_with([mark, '\n']));
        String::from(if opens { cut } else { part })
    };
    let text = text.split('"').enumerate().map(close).collect::<Vec<_>>().join("\"") + "\n";
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(mark as u8).from_reader(text.as_bytes());
    let (mut rows, mut record) = (Vec::new(), StringRecord::new());
    while reader.read_record(&mut record).with_context(|| path.display().to_string())? {
        let within: usize = record.iter().map(|field| field.matches('\n').count()).sum();
        // No line ends behind a quote that stays open: the last one is in the field.
        let open = record.iter().next_back().is_some_and(|field| field.ends_with('\n'));
        let line = reader.position().line() as usize - usize::from(!open) - within;
        ensure!(
            within == 0,
            "{}:{line}: a quote opens here and does not close on its line: close it, or write the field on one line",
            path.display()
        );
        let fields: Vec<String> = record.iter().map(|field| field.trim().to_string()).collect();
        if fields.iter().any(|field| !field.is_empty()) {
            rows.push(Record { line, fields });
        }
    }
    Ok((mark, rows))
}

/// A JSON file; NaN and infinities, which Python writes, stand for null.
///
/// # Errors
/// As [`text`]; what is wrong with it, without the file's name.
pub fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = text(path)?;
    let text = if text.contains("NaN") || text.contains("Infinity") { without_nan(&text) } else { text };
    Ok(serde_json::from_str(&text)?)
}

fn without_nan(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('"') {
        // A string ends at the first quote behind an even number of backslashes.
        let mut escaped = false;
        let close = rest[at + 1..].find(|c| {
            let end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            end
        });
        let end = close.map_or(rest.len(), |close| at + close + 2);
        plain += &numbers(&rest[..at]);
        plain += &rest[at..end];
        rest = &rest[end..];
    }
    plain + &numbers(rest)
}

fn numbers(text: &str) -> String {
    ["-Infinity", "Infinity", "NaN"].into_iter().fold(text.to_string(), |text, word| text.replace(word, "null"))
}

/// A path that a list gives, with `/` between its parts, below the folder that the list is of.
///
/// # Errors
/// In words that follow the path: it is empty, absolute, or leads out of the folder.
pub fn inside(path: &str) -> Result<String, &'static str> {
    let path = path.trim().replace('\\', "/");
    let path = path.trim_start_matches("./");
    let drive = path.as_bytes().get(1) == Some(&b':') && path.as_bytes().get(2) == Some(&b'/');
    if path.is_empty() || path.ends_with('/') {
        Err("is no file's name")
    } else if path.starts_with('/') || drive {
        Err("is an absolute path: it should begin in the images' folder")
    } else if path.split('/').any(|part| part == "..") {
        Err("leads out of the images' folder")
    } else {
        Ok(composed(path))
    }
}

/// A name with its accents composed, as it is compared with others.
pub fn composed(name: &str) -> String {
    name.nfc().collect()
}

/// The path of a file that a list names: where there is none, that of one whose ending is in capitals or in small letters
/// (cameras write `1.JPG`), or whose accents are written as other systems write them, composed or apart (macOS), or of
/// which only the composed name is the same: no form gives back U+FA1B.
pub fn found(path: PathBuf) -> PathBuf {
    if once::exists(&path) {
        return path;
    }
    let end = path.extension().map(|end| end.to_ascii_lowercase()).unwrap_or_default();
    let other = [end.to_ascii_uppercase(), end]
        .map(|end| path.with_extension(end))
        .into_iter()
        .find(|other| once::exists(other));
    if let Some(other) = other {
        return other;
    }
    if path.to_str().is_none_or(str::is_ascii) {
        return path;
    }
    // Folders and files may come from different systems.
    let mut at = PathBuf::new();
    for part in path.iter() {
        let forms = part.to_str().map(|part| [part.to_string(), part.nfc().collect(), part.nfd().collect()]);
        let there = forms.into_iter().flatten().map(|form| at.join(form)).find(|form| form.exists());
        let alike = || {
            let wanted = part.to_str().filter(|part| !part.is_ascii()).map(composed)?;
            let all = std::fs::read_dir(&at).ok()?.flatten();
            all.filter(|entry| entry.file_name().to_str().is_some_and(|name| composed(name) == wanted))
                .map(|entry| entry.path())
                .min()
        };
        at = there.or_else(alike).unwrap_or_else(|| at.join(part));
    }
    at
}

/// A person's name as it is compared: words of letters and digits, without case and accents. `George_W_Bush` and
/// `George W. Bush` are one name, `José-María` and `jose maria`, `O'Neal` and `ONeal`; `Ann Amos` and `Anna Mos` are two.
pub fn person(name: &str) -> String {
    let mut plain = String::new();
    let mut apart = false;
    for c in name.nfkd().flat_map(char::to_lowercase).nfkd() {
        // The marks of kana make other letters.
        if (is_combining_mark(c) && !matches!(c, '\u{3099}' | '\u{309a}')) || "'’`".contains(c) {
            continue;
        }
        if !c.is_alphanumeric() && !is_combining_mark(c) {
            apart = true;
            continue;
        }
        if apart && !plain.is_empty() {
            plain.push(' ');
        }
        apart = false;
        match c {
            'ø' => plain.push('o'),
            'ł' => plain.push('l'),
            'đ' | 'ð' => plain.push('d'),
            'ı' => plain.push('i'),
            'ß' => plain.push_str("ss"),
            'æ' => plain.push_str("ae"),
            'œ' => plain.push_str("oe"),
            'þ' => plain.push_str("th"),
            c => plain.push(c),
        }
    }
    plain
}

/// As [`person`], also with what follows a comma first: `Bush, George` is `George Bush`.
pub fn spellings(name: &str) -> BTreeSet<String> {
    let turned = name.split_once(',').map(|(last, first)| person(&format!("{first} {last}")));
    [person(name)].into_iter().chain(turned).filter(|name| !name.is_empty()).collect()
}
