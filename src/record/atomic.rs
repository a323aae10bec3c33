use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// How the names of files begin that are not whole yet.
const PREFIX: &str = ".writing-";

/// Writes a file so that, whatever happens, there is the old one or the whole new one under its name: under a
/// temporary name in the same folder, flushed to the disk, then renamed.
///
/// A program that is killed in between leaves the temporary file, which [`remove_leftovers`] removes.
///
/// # Errors
///
/// What the system says; nothing of the new file is left then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new();
    temporary.prefix(PREFIX);
    #[cfg(unix)]
    {
        // A temporary file is its owner's alone; a result is for whoever the umask lets read it.
        use std::os::unix::fs::PermissionsExt;
        temporary.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = temporary.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename is only durable once the folder is.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// Removes the temporary files that [`write_atomically`] left in `folder` when its program was killed. Only for a
/// folder that no program writes to.
///
/// # Errors
///
/// The folder cannot be read, or a file not removed.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_leftover(&entry.file_name()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file of this name is a temporary file of [`write_atomically`].
pub fn is_leftover(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(PREFIX)
}
