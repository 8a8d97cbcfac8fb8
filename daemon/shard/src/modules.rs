//! What scripts require: text files beside them. Read once, when an operator is
//! built, and remembered, so that whoever watches scripts knows their parts.
//!
//! A name is words with dots between them: `require "a.b"` is `a/b.lua` in the
//! first folder that has it. Nothing outside of the folders is reached, not
//! through a link either.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use ringmain_ops::Module;

/// A file that was looked at, and its text; `None` where there was none.
pub type Looked = (PathBuf, Option<Arc<str>>);

/// The modules of one operator.
#[derive(Debug)]
pub(crate) struct ModuleFiles {
    folders: Vec<PathBuf>,
    looked: RefCell<Vec<Looked>>,
    /// What was found: its name in messages, and its place in `looked`.
    found: RefCell<Vec<(Arc<str>, usize)>>,
}

impl ModuleFiles {
    pub(crate) fn new(folders: &[PathBuf]) -> Rc<Self> {
        let (folders, looked, found) = (folders.to_vec(), RefCell::default(), RefCell::default());
        Rc::new(Self { folders, looked, found })
    }

    /// The module of that name.
    pub(crate) fn find(&self, name: &str) -> Result<Module, String> {
        let words = || name.split('.');
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        if !words().all(is_word) || name.len() > 255 {
            return Err(format!(
                "'{name}' is not the name of a module: write letters, digits, '_' and '-', and a \
                 dot for each folder"
            ));
        }
        let chunk = words().collect::<Vec<_>>().join("/") + ".lua";
        for folder in &self.folders {
            let path = folder.join(&chunk);
            let text = read(folder, &path)?;
            let mut looked = self.looked.borrow_mut();
            looked.push((path, text.clone()));
            if let Some(text) = text {
                let chunk: Arc<str> = chunk.into();
                self.found.borrow_mut().push((chunk.clone(), looked.len() - 1));
                return Ok(Module { name: name.into(), chunk, text });
            }
        }
        let places: Vec<_> =
            self.folders.iter().map(|folder| folder.join(&chunk).display().to_string()).collect();
        Err(format!("there is no module '{name}' (looked for {})", places.join(", ")))
    }

    /// The file of a module that was found, and its text.
    pub(crate) fn file(&self, chunk: &str) -> Option<(PathBuf, Arc<str>)> {
        let found = self.found.borrow();
        let (_, at) = found.iter().find(|(known, _)| &**known == chunk)?;
        let (path, text) = &self.looked.borrow()[*at];
        Some((path.clone(), text.clone()?))
    }

    /// Every file that was looked at so far.
    pub(crate) fn looked(&self) -> Vec<Looked> {
        self.looked.borrow().clone()
    }
}

/// The text of a file inside of a folder, `None` where there is no file.
fn read(folder: &Path, path: &Path) -> Result<Option<Arc<str>>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let (Ok(real), Ok(inside)) = (path.canonicalize(), folder.canonicalize()) else {
        return Ok(None);
    };
    if !real.starts_with(&inside) {
        return Err(format!("{} leads out of {}", path.display(), folder.display()));
    }
    if !real.is_file() {
        return Ok(None);
    }
    std::fs::read_to_string(&real).map(|text| Some(text.into())).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_from_the_first_folder_and_from_nowhere_else() {
        let root = std::env::temp_dir().join(format!("ringmain-modules-{}", std::process::id()));
        let (a, b) = (root.join("a"), root.join("b"));
        for folder in [&a, &b, &a.join("sub")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        for (path, text) in [
            (a.join("one.lua"), "a1"),
            (b.join("one.lua"), "b1"),
            (b.join("two.lua"), "b2"),
            (a.join("sub/three.lua"), "a3"),
            (root.join("out.lua"), "out"),
        ] {
            std::fs::write(path, text).unwrap();
        }
        let _ = std::fs::remove_file(a.join("link.lua"));
        std::os::unix::fs::symlink(root.join("out.lua"), a.join("link.lua")).unwrap();
        let files = ModuleFiles::new(&[a.clone(), b.clone(), root.join("none")]);
        let text = |name: &str| files.find(name).map(|module| module.text.to_string());
        assert_eq!(text("one").as_deref(), Ok("a1"));
        assert_eq!(text("two").as_deref(), Ok("b2"));
        assert_eq!(text("sub.three").as_deref(), Ok("a3"));
        assert!(text("link").unwrap_err().contains("leads out of"));
        for name in ["", ".", "..", "../out", "..out", "a..b", "/etc/passwd", "one.", "o\0ne"] {
            assert!(text(name).unwrap_err().contains("is not the name of a module"), "{name}");
        }
        assert!(text("three").unwrap_err().contains("there is no module 'three' (looked for"));
        assert_eq!(files.file("two.lua").unwrap().0, b.join("two.lua"));
        let looked = files.looked();
        assert_eq!(looked[1], (a.join("two.lua"), None));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
