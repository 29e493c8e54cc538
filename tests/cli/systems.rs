//! File systems that are full, or can do less than others.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program::{Folder, TINY, failure};

/// Says that a test could not be made, past the harness, which keeps what tests say to itself.
pub fn skipped(test: &str, why: &dyn std::fmt::Display) {
    io::stderr().write_all(format!("SKIPPED: {test}: {why}\n").as_bytes()).unwrap();
}

#[test]
fn a_file_beyond_the_limit_leaves_nothing() {
    let folder = Folder::new();
    let out = folder.path("out.gguf");
    let program = env!("CARGO_BIN_EXE_unweight-gguf");
    let limited = format!("ulimit -f 100; exec '{program}' convert '{TINY}' '{out}'");
    let output = Command::new("sh").args(["-c", &limited]).output().unwrap();
    failure(&output, &["out.gguf", "File too large"]);
    assert_eq!(folder.names(), Vec::<PathBuf>::new());
}

/// Needs leave to mount: an unprivileged user namespace.
#[test]
fn a_full_disk_leaves_nothing() {
    let script = r#"
        mount -t tmpfs -o size=200k none "$1" || exit 77
        "$2" convert "$3" "$1/out.gguf" 2>"$4"
        test $? = 1 && test -z "$(ls -A "$1")"
    "#;
    let (disk, messages) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let message = messages.path().join("message");
    let run = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(disk.path())
        .args([env!("CARGO_BIN_EXE_unweight-gguf"), TINY])
        .arg(&message)
        .output();
    match run {
        Ok(output) if output.status.code() == Some(0) => {
            let message = fs::read_to_string(message).unwrap();
            assert!(message.contains("out.gguf") && message.contains("No space left"), "{message}");
        }
        Ok(output) if output.status.code() == Some(1) && message.exists() => {
            panic!("{}", fs::read_to_string(message).unwrap());
        }
        _ => skipped("a_full_disk_leaves_nothing", &"no leave to mount a small disk here"),
    }
}

#[cfg(target_os = "linux")]
mod filtered {
    use std::os::unix::process::CommandExt;
    use std::process::Output;
    use std::thread;

    use unweight::convert::{Form, Progress, Stage, convert};

    use super::*;
    use crate::program::{command, success};

    /// A system call that fails, always or where one of its arguments has one of some bits.
    #[derive(Clone, Copy)]
    struct Fault {
        call: libc::c_long,
        bits: Option<(u32, u32)>,
        errno: i32,
    }

    /// As in the kernel's `struct seccomp_data`: the number of the call, and where its arguments begin.
    const CALL_AT: u32 = 0;
    const ARGUMENTS_AT: u32 = 16;

    fn filter(faults: &[Fault]) -> Vec<libc::sock_filter> {
        let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
        let load = |at: u32| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
        let answer = |k: u32| step(libc::BPF_RET | libc::BPF_K, k, 0, 0);
        let unless = |how: u32, k: u32, skip: u8| step(libc::BPF_JMP | how | libc::BPF_K, k, 0, skip);
        let mut steps = vec![load(CALL_AT)];
        for fault in faults {
            let fails = answer(libc::SECCOMP_RET_ERRNO | fault.errno as u32);
            match fault.bits {
                None => steps.extend([unless(libc::BPF_JEQ, fault.call as u32, 1), fails]),
                Some((argument, bits)) => steps.extend([
                    unless(libc::BPF_JEQ, fault.call as u32, 4),
                    load(ARGUMENTS_AT + 8 * argument),
                    unless(libc::BPF_JSET, bits, 1),
                    fails,
                    answer(libc::SECCOMP_RET_ALLOW),
                ]),
            }
        }
        steps.push(answer(libc::SECCOMP_RET_ALLOW));
        steps
    }

    /// From now on, and for good, this thread's calls go through the filter.
    fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the kernel copies the program, which it does not change.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Runs the program under a filter; says so and returns `None` where that cannot be.
    fn run(test: &str, faults: &[Fault], arguments: &[&str]) -> Option<Output> {
        let filter = filter(faults);
        let mut command = command(arguments);
        // SAFETY: between fork and exec, `install` makes two system calls and nothing else.
        unsafe { command.pre_exec(move || install(&filter)) };
        command.output().map_err(|error| skipped(test, &error)).ok()
    }

    /// Works in a thread of its own under a filter; says so and does not where that cannot be.
    fn in_thread(test: &str, faults: &[Fault], work: impl FnOnce() + Send) {
        let filter = filter(faults);
        thread::scope(|scope| {
            scope.spawn(move || match install(&filter) {
                Ok(()) => work(),
                Err(error) => skipped(test, &error),
            });
        });
    }

    /// No renaming without replacing, and no hard links, as on exFAT and many FUSE file systems.
    fn cannot_rename_safely(errno: i32) -> Vec<Fault> {
        let mut faults = vec![
            Fault { call: libc::SYS_renameat2, bits: Some((4, u32::MAX)), errno },
            Fault { call: libc::SYS_linkat, bits: None, errno: libc::EPERM },
        ];
        #[cfg(target_arch = "x86_64")]
        faults.push(Fault { call: libc::SYS_link, bits: None, errno: libc::EPERM });
        faults
    }

    /// No mapping of files that others see, as on some network file systems: private memory is still to be had.
    const CANNOT_MAP: [Fault; 1] =
        [Fault { call: libc::SYS_mmap, bits: Some((3, libc::MAP_SHARED as u32)), errno: libc::ENODEV }];

    #[test]
    fn filters_do_what_they_should() {
        in_thread("filters_do_what_they_should", &cannot_rename_safely(libc::EINVAL), || {
            let folder = Folder::new();
            let (from, to) = (folder.file("from", b"one"), folder.path("to"));
            let names = [&from, &to].map(|name| std::ffi::CString::new(name.as_str()).unwrap());
            let [old, new] = names.each_ref().map(|name| name.as_ptr());
            // SAFETY: two C strings.
            let renamed =
                unsafe { libc::renameat2(libc::AT_FDCWD, old, libc::AT_FDCWD, new, libc::RENAME_NOREPLACE) };
            assert_eq!((renamed, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EINVAL)));
            assert_eq!(fs::hard_link(&from, &to).unwrap_err().raw_os_error(), Some(libc::EPERM));
            fs::rename(&from, &to).unwrap();
        });
        in_thread("filters_do_what_they_should", &CANNOT_MAP, || {
            let file = fs::File::open(TINY).unwrap();
            // SAFETY: nobody changes the fixture.
            let mapped = unsafe { memmap2::Mmap::map(&file) };
            assert_eq!(mapped.unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }

    #[test]
    fn where_nothing_can_be_renamed_safely_files_are_written_and_not_replaced() {
        for errno in [libc::EPERM, libc::EINVAL, libc::ENOSYS] {
            let run = |arguments: &[&str]| {
                run(
                    "where_nothing_can_be_renamed_safely_files_are_written_and_not_replaced",
                    &cannot_rename_safely(errno),
                    arguments,
                )
            };
            let folder = Folder::new();
            let (converted, there) = (folder.path("converted.gguf"), folder.file("there.gguf", b"precious"));
            let Some(output) = run(&["convert", TINY, &converted]) else { return };
            success(&output);
            folder.gives_back(&converted, TINY);
            for arguments in [["convert", TINY, &there], ["restore", &converted, &there]] {
                failure(&run(&arguments).unwrap(), &["there.gguf", "exists already"]);
                assert_eq!(fs::read(&there).unwrap(), b"precious");
            }
            success(&run(&["restore", &converted, &there, "--force"]).unwrap());
            assert!(fs::read(&there).unwrap() == fs::read(TINY).unwrap());
            assert_eq!(folder.names().len(), 3, "no temporary file is left");
        }
    }

    /// Has the output come into being while it is written.
    struct Rival<'a>(&'a Path);

    impl Progress for Rival<'_> {
        fn begin(&self, stage: Stage, _: u64) {
            if stage == Stage::Writing {
                fs::write(self.0, b"precious").unwrap();
            }
        }

        fn advance(&self, _: u64) {}
    }

    #[test]
    fn a_file_that_comes_into_being_meanwhile_is_not_replaced() {
        let test = "a_file_that_comes_into_being_meanwhile_is_not_replaced";
        for faults in [vec![], cannot_rename_safely(libc::EPERM), cannot_rename_safely(libc::EINVAL)] {
            in_thread(test, &faults, || {
                let folder = Folder::new();
                let target = folder.as_path().join("target.gguf");
                let error = convert(Path::new(TINY), &target, Form::Run, false, &Rival(&target)).unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!("{}: exists already; --force replaces it", target.display())
                );
                assert_eq!(fs::read(&target).unwrap(), b"precious");
                assert_eq!(folder.names(), [target]);
            });
        }
    }

    #[test]
    fn a_disk_that_fails_leaves_nothing() {
        let test = "a_disk_that_fails_leaves_nothing";
        let folder = Folder::new();
        let (converted, target) = (folder.converted(TINY), folder.path("target.gguf"));
        // Short reads are those of whoever loads the program.
        for (call, bits, said) in [
            (libc::SYS_pread64, Some((2, !0xFFF)), "Input/output error"),
            (libc::SYS_pwrite64, None, "writing: Input/output error"),
            (libc::SYS_fsync, None, "Input/output error"),
        ] {
            let faults = [Fault { call, bits, errno: libc::EIO }];
            for arguments in [
                &["convert", TINY, &target][..],
                &["convert", "--archive", TINY, &target],
                &["restore", &converted, &target],
            ] {
                let Some(output) = run(test, &faults, arguments) else { return };
                failure(&output, &["unweight-gguf: ", ".gguf: ", said]);
                assert_eq!(folder.names(), [Path::new(&converted)], "{arguments:?}");
            }
        }
    }

    #[test]
    fn where_nothing_can_be_mapped_files_are_read() {
        let run =
            |arguments: &[&str]| run("where_nothing_can_be_mapped_files_are_read", &CANNOT_MAP, arguments);
        let folder = Folder::new();
        let (converted, restored) = (folder.path("converted.gguf"), folder.path("restored.gguf"));
        let Some(output) = run(&["convert", TINY, &converted]) else { return };
        success(&output);
        assert!(fs::read(&converted).unwrap() == fs::read(folder.converted(TINY)).unwrap());
        success(&run(&["restore", &converted, &restored]).unwrap());
        assert!(fs::read(&restored).unwrap() == fs::read(TINY).unwrap());
        assert!(success(&run(&["verify", &converted, "--against", TINY]).unwrap()).contains("identical to"));
        success(&run(&["inspect", "--json", &converted]).unwrap());
    }
}
