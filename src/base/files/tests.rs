use super::*;
use crate::error::{Error, ErrorKind};
use std::path::Path;

fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    write_file(&path, b"old").unwrap();
    let e = atomic_write(&path, |w| {
        w.write_all(b"half").map_err(|e| Error::io("a", e))?;
        Err(Error::check("stop"))
    });
    assert!(e.unwrap_err().to_string().contains("a.txt: stop"));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["a.txt"]);
}

#[test]
fn missing_folders_and_folders_are_errors_that_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let e = write_file(dir.path().join("no/such/x.npy"), b"").unwrap_err();
    assert!(e.to_string().contains("x.npy"), "{e}");
    for folder in [dir.path(), Path::new("."), Path::new(".."), Path::new("/")] {
        assert_eq!(write_file(folder, b"").unwrap_err().kind(), ErrorKind::Argument, "{}", folder.display());
        assert_eq!(read(folder).unwrap_err().kind(), ErrorKind::Argument);
    }
    assert_eq!(read(dir.path().join("none")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_stage_is_whole_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b/c");
    let stage = Stage::new(&folder).unwrap();
    stage.write("images/1.png", b"1").unwrap();
    stage.write("data.yaml", b"2").unwrap();
    assert!(!dir.path().join("a").exists());
    drop(stage);
    assert!(names(dir.path()).is_empty(), "nothing is left of what was not finished");
    for times in 1..=2 {
        let stage = Stage::new(&folder).unwrap();
        stage.write("images/1.png", &[times]).unwrap();
        stage.write(format!("{times}.txt"), b"").unwrap();
        stage.commit().unwrap();
        assert_eq!(std::fs::read(folder.join("images/1.png")).unwrap(), [times], "files of the same names are replaced");
    }
    assert_eq!(names(&folder), ["1.txt", "2.txt", "images"], "others stay");
    assert_eq!(names(&folder.join("images")), ["1.png"]);
}

#[test]
fn what_cannot_be_moved_in_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("x/taken")).unwrap();
    std::fs::write(dir.path().join("x/a"), b"old").unwrap();
    std::fs::write(dir.path().join("x/images"), b"a file").unwrap();
    for entry in ["taken", "images/1.png"] {
        let stage = Stage::new(&dir.path().join("x")).unwrap();
        stage.write("a", b"new").unwrap();
        stage.write(entry, b"new").unwrap();
        assert_eq!(stage.commit().unwrap_err().kind(), ErrorKind::Argument);
        assert_eq!(std::fs::read(dir.path().join("x/a")).unwrap(), b"old");
        assert_eq!(names(&dir.path().join("x")), ["a", "images", "taken"]);
    }
    assert_eq!(Stage::new(&dir.path().join("x/a")).err().map(|e| e.kind()), Some(ErrorKind::Argument));
    assert_eq!(Stage::new(&dir.path().join("x/a/b")).err().map(|e| e.kind()), Some(ErrorKind::Argument));
}

#[test]
fn what_a_process_left_is_swept_and_what_one_holds_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let name = |n: &str| dir.path().join(n);
    std::fs::write(name(".compresso-1-abc.part"), b"half").unwrap();
    std::fs::create_dir_all(name(".compresso-1-def.part/images")).unwrap();
    // Whole, and killed while it was moved in.
    std::fs::create_dir_all(name(".compresso-1-ghi.move/images")).unwrap();
    std::fs::write(name(".compresso-1-ghi.move/images/2.png"), b"2").unwrap();
    std::fs::write(name(".compresso-1-ghi.move/data.yaml"), b"3").unwrap();
    std::fs::create_dir(name("images")).unwrap();
    // Another's: of a process that lives, and no file of this program.
    let held = std::fs::File::create(name(".compresso-1-held.part")).unwrap();
    held.lock().unwrap();
    std::fs::write(name(".compresso-notes"), b"mine").unwrap();
    let stage = Stage::new(dir.path()).unwrap();
    stage.write("b", b"").unwrap();
    stage.commit().unwrap();
    assert_eq!(names(dir.path()), [".compresso-1-held.part", ".compresso-notes", "b", "data.yaml", "images"]);
    assert_eq!(names(&name("images")), ["2.png"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let name = |n: &str| dir.path().join(n);
    std::fs::create_dir(name("far")).unwrap();
    std::fs::write(name("far/file"), b"old").unwrap();
    std::fs::set_permissions(name("far/file"), std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("far/file", name("link")).unwrap();
    symlink(name("link"), name("second")).unwrap();
    symlink("far/new", name("dangling")).unwrap();
    symlink("round", name("round")).unwrap();
    symlink("far", name("folder")).unwrap();
    for link in ["link", "second", "dangling"] {
        write_file(name(link), link.as_bytes()).unwrap();
        assert!(name(link).is_symlink() && std::fs::read(name(link)).unwrap() == link.as_bytes());
        let stage = Stage::new(dir.path()).unwrap();
        stage.write(link, b"staged").unwrap();
        stage.commit().unwrap();
        assert!(name(link).is_symlink() && std::fs::read(name(link)).unwrap() == b"staged");
    }
    write_file(name("link"), b"again").unwrap();
    assert_eq!(names(&name("far")), ["file", "new"]);
    for bad in ["round", "folder"] {
        assert_eq!(write_file(name(bad), b"").unwrap_err().kind(), ErrorKind::Argument);
        assert!(name(bad).is_symlink());
    }
    write_file(name("far/file"), b"kept").unwrap();
    write_file(name("fresh"), b"").unwrap();
    let mode = |n: &str| std::fs::metadata(name(n)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("far/file"), mode("fresh"), "a moved file has its own permissions");
    std::fs::set_permissions(name("far/file"), std::fs::Permissions::from_mode(0o600)).unwrap();
    write_file(name("link"), b"kept").unwrap();
    assert_eq!(mode("far/file"), 0o600, "a replaced file keeps them");
}

#[cfg(target_os = "linux")]
#[test]
fn devices_and_pipes_are_written_straight_and_not_read() {
    use std::os::unix::fs::FileTypeExt;
    let is_device = |p: &str| std::fs::metadata(p).unwrap().file_type().is_char_device();
    assert!(write_file("/dev/full", b"x").unwrap_err().to_string().contains("No space left"));
    write_file("/dev/null", b"x").unwrap();
    assert!(is_device("/dev/full") && is_device("/dev/null"));
    for path in ["/dev/zero", "/dev/full"] {
        let e = read(path).unwrap_err();
        assert!(e.to_string().contains("expected a file, got a device or a pipe"), "{e}");
    }
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let e = write_file(&pipe, b"x").unwrap_err();
    assert!(e.kind() == ErrorKind::Unavailable && e.to_string().contains("nobody reads this pipe"), "{e}");
    assert_eq!(read(&pipe).unwrap_err().kind(), ErrorKind::Argument);
    let reader = std::process::Command::new("cat").arg(&pipe).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let written = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        write_file(&pipe, b"through").is_ok()
    });
    assert!(written);
    assert_eq!(reader.wait_with_output().unwrap().stdout, b"through");
    assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn scripts_have_a_longest_length() {
    assert_eq!(script_text(&b"1 + 1"[..], "x").unwrap(), "1 + 1");
    assert!(script_text(std::io::repeat(0), "x").unwrap_err().to_string().contains("64 MiB"));
    assert_eq!(script_text(&[0xff][..], "x").unwrap_err().kind(), ErrorKind::Format);
}

#[test]
fn a_folder_that_is_marked_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("above/package");
    let write = |file: &str| {
        let stage = Stage::replacing(&folder, "mark").unwrap();
        stage.write("mark", b"").unwrap();
        stage.write(file, file.as_bytes()).unwrap();
        stage
    };
    write("inner/a").commit().unwrap();
    assert_eq!(names(&folder), ["inner", "mark"]);
    write("b").commit().unwrap();
    assert_eq!(names(&folder), ["b", "mark"]);
    // What is not committed changes nothing, and leaves nothing.
    drop(write("c"));
    assert_eq!(names(&folder), ["b", "mark"]);
    assert_eq!(names(&dir.path().join("above")), ["package"]);
    // A folder without the mark is another's, unless nothing is in it.
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    drop(Stage::replacing(&other, "mark").unwrap());
    std::fs::write(other.join("mine"), "mine").unwrap();
    let e = Stage::replacing(&other, "mark").err().unwrap();
    assert!(e.to_string().contains("a folder without 'mark'"), "{e}");
    assert_eq!(names(&other), ["mine"]);
}
