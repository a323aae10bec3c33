use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Prefix of the names of temporary files.
const PREFIX: &str = ".writing-";

/// Replaces a file atomically: whatever happens, `path` names the old file or the complete new one.
///
/// Writes a temporary file in the same folder, flushes it to the disk, and renames it. A program that is killed in
/// between leaves the temporary file; [`remove_leftovers`] removes it. The folder is flushed too, if the system permits
/// it: some folders can be written but not opened.
///
/// # Errors
///
/// The folder does not exist, or the file cannot be written. In both cases, nothing of the new file is left.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        let message = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    let mut temporary = tempfile::Builder::new();
    temporary.prefix(PREFIX);
    #[cfg(unix)]
    {
        // Temporary files are private by default. The umask should decide who may read the result.
        use std::os::unix::fs::PermissionsExt;
        temporary.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = temporary
        .tempfile_in(folder)
        // Drop the message, which would name the temporary file.
        .map_err(|error| io::Error::from(error.kind()))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The new file is in place, so a failure from here on is not an error.
    #[cfg(unix)]
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Removes temporary files that [`write_atomically`] left in `folder` when its program was killed. No other program may
/// write to the folder meanwhile.
///
/// # Errors
///
/// The folder cannot be read, or a file cannot be removed.
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
