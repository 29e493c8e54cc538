//! Which ggml it is that loads us. A process may hold several, and Python and Node hide theirs from the global scope.

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

use libloading::os::unix::{Library, RTLD_LAZY};

/// A ggml that is in this process.
pub struct Ggml {
    handle: Library,
}

impl Ggml {
    /// That of the code at `caller`, or else the one that all libraries see, or else the only one that there is.
    pub fn of(caller: *const c_void) -> Option<Self> {
        let own = || file_of(caller).and_then(|file| loaded(&file));
        own().or_else(|| complete(Library::this())).or_else(Self::only)
    }

    fn only() -> Option<Self> {
        let mut all = loaded_files().into_iter().filter_map(|file| loaded(&file));
        let first = all.next()?;
        let version = |ggml: &Self| ggml.function(c"ggml_version");
        all.all(|other| version(&other) == version(&first)).then_some(first)
    }

    /// A function of it; null if it has none of that name.
    pub fn function(&self, name: &CStr) -> *mut c_void {
        symbol(&self.handle, name)
    }

    /// Leaves the library where it is when this is dropped.
    pub fn stay(self) {
        std::mem::forget(self.handle);
    }
}

/// Keeps this library in memory for as long as the process lives, though ggml may unload what it has loaded. False if that cannot be done.
pub fn pin() -> bool {
    let Some(own) = file_of(pin as *const c_void) else { return false };
    let name = OsStr::from_bytes(own.to_bytes());
    let is_program = || {
        let same = |path: &std::path::Path| path.canonicalize().ok();
        std::env::current_exe().is_ok_and(|program| same(&program) == same(name.as_ref()))
    };
    let flags = RTLD_LAZY | (libc::RTLD_NOLOAD | libc::RTLD_NODELETE) as c_int;
    // SAFETY: with these flags nothing is loaded, so that nothing is run.
    unsafe { Library::open(Some(name), flags) }.is_ok() || is_program()
}

fn symbol(library: &Library, name: &CStr) -> *mut c_void {
    // SAFETY: only the address is taken.
    unsafe { library.get::<*mut c_void>(name.to_bytes_with_nul()) }
        .map_or(std::ptr::null_mut(), |symbol| symbol.into_raw())
}

/// The library, if it or what it depends on is a ggml with backends.
fn complete(library: Library) -> Option<Ggml> {
    let has = |name: &CStr| !symbol(&library, name).is_null();
    (has(c"ggml_backend_register") && has(c"ggml_version")).then_some(Ggml { handle: library })
}

/// What is in memory already; never loads anything.
fn loaded(file: &CStr) -> Option<Ggml> {
    let name = OsStr::from_bytes(file.to_bytes());
    // SAFETY: with this flag nothing is loaded, so that nothing is run.
    let library = unsafe { Library::open(Some(name), RTLD_LAZY | libc::RTLD_NOLOAD as c_int) }.ok()?;
    complete(library)
}

/// The file that the code at an address came from.
fn file_of(address: *const c_void) -> Option<CString> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: any address may be asked for; the name, if there is one, is copied before anything is unloaded.
    unsafe {
        let found = libc::dladdr(address, &mut info) != 0 && !info.dli_fname.is_null();
        found.then(|| CStr::from_ptr(info.dli_fname).to_owned())
    }
}

/// Every library in memory.
#[cfg(target_os = "linux")]
fn loaded_files() -> Vec<CString> {
    unsafe extern "C" fn note(info: *mut libc::dl_phdr_info, _: usize, files: *mut c_void) -> c_int {
        // SAFETY: the system passes a description, and the list that was given to it.
        unsafe {
            let name = (*info).dlpi_name;
            if !name.is_null() && *name != 0 {
                (*files.cast::<Vec<CString>>()).push(CStr::from_ptr(name).to_owned());
            }
        }
        0
    }
    let mut files = Vec::new();
    // SAFETY: `note` takes the list, which nobody else uses meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut files).cast()) };
    files
}

#[cfg(not(target_os = "linux"))]
fn loaded_files() -> Vec<CString> {
    Vec::new()
}
