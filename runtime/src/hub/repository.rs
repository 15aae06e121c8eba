//! A repository of the hub, and the command that downloads it.

use std::fmt;
use std::path::Path;

use super::HubError;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl Kind {
    /// What it is called in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Dataset => "data set",
        }
    }

    /// How the names of its folders begin.
    const fn folder(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }
}

/// Files of a model that are read. The published repositories hold the weights of other frameworks as well, each as
/// large as these.
const FILES_OF_MODEL: [&str; 4] = ["*.json", "merges.txt", "*.safetensors", "pytorch_model*.bin"];

/// The longest name or revision.
const LONGEST: usize = 200;

/// A repository of the hub at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    kind: Kind,
    /// `owner/name`, or `name` alone, as the oldest repositories have it.
    name: String,
    revision: Option<String>,
    /// Patterns of the files that are needed of it; none for all.
    include: Vec<String>,
}

impl Repository {
    /// The repository `name`: `owner/name`, `owner/name@revision`, or a name without owner. `revision` is a branch, a
    /// tag, a commit or a pull request's `refs/pr/1`; without one it is the main branch.
    ///
    /// # Errors
    /// [`HubError::Name`] if the text is no such name, and [`HubError::TwoRevisions`] if it names another revision
    /// than `revision`.
    pub fn new(kind: Kind, name: &str, revision: Option<&str>) -> Result<Repository, HubError> {
        let invalid = || HubError::Name { text: name.to_owned() };
        let (bare, typed) = match name.split_once('@') {
            Some((bare, typed)) => (bare, Some(typed)),
            None => (name, None),
        };
        if let (Some(one), Some(other)) = (typed, revision)
            && one != other
        {
            return Err(HubError::TwoRevisions { name: name.to_owned(), revision: other.to_owned() });
        }
        let revision = typed.or(revision);
        let is_name =
            bare.split('/').count() <= 2 && bare.split('/').all(|word| is_word(word) && !word.contains("--"));
        let is_revision = |text: &str| text.len() <= LONGEST && text.split('/').all(is_word);
        if !is_name || bare.len() > LONGEST || !revision.is_none_or(is_revision) {
            return Err(invalid());
        }
        let include = match kind {
            Kind::Model => FILES_OF_MODEL.map(str::to_owned).to_vec(),
            Kind::Dataset => Vec::new(),
        };
        Ok(Repository { kind, name: bare.to_owned(), revision: revision.map(str::to_owned), include })
    }

    /// The repository whose snapshot `directory` is, at its commit; none if it is no snapshot of a cache.
    pub fn of_snapshot(directory: &Path) -> Option<Repository> {
        let text = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
        let snapshots = directory.parent()?;
        let (commit, folder) = (text(directory)?, text(snapshots.parent()?)?);
        if text(snapshots)? != "snapshots" {
            return None;
        }
        let of = |kind: Kind| {
            let name = folder.strip_prefix(kind.folder())?.strip_prefix("--")?;
            Repository::new(kind, &name.replacen("--", "/", 1), Some(&commit)).ok()
        };
        of(Kind::Model).or_else(|| of(Kind::Dataset))
    }

    /// The same, of which files with names as `patterns` are needed: what the command downloads.
    pub fn including(mut self, patterns: &[&str]) -> Repository {
        self.include = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        self
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `owner/name`, or the name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The revision.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Name of its folder in a cache.
    pub(super) fn folder(&self) -> String {
        format!("{}--{}", self.kind.folder(), self.name.replace('/', "--"))
    }

    /// The command that downloads what is needed of it, at the revision `revision` if the main one is not meant.
    pub fn download_command(&self) -> String {
        let mut command = format!("hf download {}", self.name);
        if self.kind == Kind::Dataset {
            command.push_str(" --repo-type dataset");
        }
        if let Some(revision) = &self.revision {
            command.push_str(&format!(" --revision {revision}"));
        }
        for pattern in &self.include {
            command.push_str(&format!(" --include '{pattern}'"));
        }
        command
    }

    /// What to do about a repository that is not there: the command, and for GPT-J's own its smaller branch.
    pub(super) fn advice(&self) -> String {
        let command = self.download_command();
        let mut advice = format!("gptjc never opens the network; download it with\n  {command}");
        if self.revision.is_none() && self.name.eq_ignore_ascii_case("EleutherAI/gpt-j-6b") {
            let float16 = Repository { revision: Some("float16".to_owned()), ..self.clone() };
            advice = format!(
                "gptjc never opens the network; download 24 GB in float32 with\n  {command}\nor 12 GB in float16 with\n  \
                 {}\nand give --revision float16",
                float16.download_command()
            );
        }
        advice
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// A part of a name or revision: nothing that leads to another directory.
fn is_word(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        let model = |text: &str| Repository::new(Kind::Model, text, None);
        let good = model("EleutherAI/gpt-j-6b").unwrap();
        assert_eq!(
            (good.name(), good.revision(), good.folder().as_str()),
            ("EleutherAI/gpt-j-6b", "main", "models--EleutherAI--gpt-j-6b")
        );
        assert_eq!(model("gpt2").unwrap().folder(), "models--gpt2");
        let revised = model("a/b@refs/pr/1").unwrap();
        assert_eq!((revised.name(), revised.revision()), ("a/b", "refs/pr/1"));
        for text in [
            "",
            "/models/gptj",
            "./gptj",
            "../a/b",
            "a/b/c",
            "a/",
            "/b",
            "a/..",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a b/c",
            "a/b\0",
            "a--b/c",
            "~/x",
        ] {
            assert!(model(text).is_err(), "{text}");
        }
        assert!(model(&"a".repeat(300)).is_err());
    }

    #[test]
    fn a_revision_is_said_once() {
        let name = "a/b@float16";
        assert_eq!(Repository::new(Kind::Model, name, Some("float16")).unwrap().revision(), "float16");
        let error = Repository::new(Kind::Model, name, Some("main")).unwrap_err().to_string();
        assert!(error.contains("`a/b@float16` contradicts the revision `main`"), "{error}");
    }

    #[test]
    fn a_snapshot_knows_its_repository() {
        let of = |path: &str| Repository::of_snapshot(Path::new(path)).map(|found| found.to_string());
        let commit = "0".repeat(40);
        let model = of(&format!("/hub/models--EleutherAI--gpt-j-6b/snapshots/{commit}")).unwrap();
        assert_eq!(model, format!("EleutherAI/gpt-j-6b@{commit}"));
        assert_eq!(of("/hub/datasets--glue/snapshots/abc").unwrap(), "glue@abc");
        for path in ["/", "/a/b", "/models--a--b/snapshot/c", "/x/snapshots/c", "/models--..--b/snapshots/c"]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn commands_say_which_files() {
        let model = Repository::new(Kind::Model, "a/b", Some("v1")).unwrap();
        assert_eq!(
            model.download_command(),
            "hf download a/b --revision v1 --include '*.json' --include 'merges.txt' --include '*.safetensors' \
             --include 'pytorch_model*.bin'"
        );
        let data = Repository::new(Kind::Dataset, "nyu-mll/glue", None).unwrap().including(&["mnli/*"]);
        assert_eq!(
            data.download_command(),
            "hf download nyu-mll/glue --repo-type dataset --include 'mnli/*'"
        );
    }
}
