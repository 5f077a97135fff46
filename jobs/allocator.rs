//! How this process gets its memory.

/// glibc's allocator costs a fifth more CPU here: batches are freed on other threads than made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
const PURGE_DELAY_MS: std::ffi::c_long = 100;

/// To be called before there are threads: returns freed memory soon, and takes none in pieces that are slow to come back.
#[allow(unsafe_code, reason = "the allocator and the kernel are set up through C")]
pub fn set_up() {
    // Chunks come and go several times a second, and each thread holds on to what it freed: with the default of a second
    // that is 200 MB more, with no delay at all a tenth more time.
    // SAFETY: an integer is set in a table of the allocator, and no other thread reads it yet. `MIMALLOC_PURGE_DELAY`,
    // where it is set, counts more.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) };
    // Huge pages come back in pieces of 2 MB only, which doubles the memory of a process that writes small epochs and
    // makes nothing here faster.
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_THP_DISABLE reads no memory. Where it is not known it fails, and nothing is lost.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}
