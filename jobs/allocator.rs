//! How this process gets its memory.

/// glibc's allocator costs a fifth more CPU here: batches are freed on other threads than made them. mimalloc costs what
/// this one does and holds 160 MB more of a rebuild: a block of a size keeps its neighbours' pages from being returned.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The first byte of a string of C, which the allocator looks for under this name before the first line of ours runs.
///
/// Chunks come and go several times a second: pages that stayed free for half a second go back, and a thread of the
/// allocator's own returns them. `_RJEM_MALLOC_CONF`, where it is set, counts more.
#[allow(unsafe_code, reason = "a C library reads it by its name")]
// SAFETY: the name has the allocator's own prefix, so that nothing else can have it, and the string ends with a zero byte.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &u8 = &b"background_thread:true,dirty_decay_ms:500,muzzy_decay_ms:0\0"[0];

/// To be called before there are threads: takes no memory in pieces that are slow to come back.
#[allow(unsafe_code, reason = "the kernel is set up through C")]
pub fn set_up() {
    // Huge pages come back in pieces of 2 MB only, which doubles the memory of a process that writes small epochs and
    // makes nothing here faster.
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_THP_DISABLE reads no memory. Where it is not known it fails, and nothing is lost.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}
