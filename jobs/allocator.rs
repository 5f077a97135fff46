//! How this process gets its memory.

/// glibc's allocator costs a fifth more CPU here: batches are freed on other threads than made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the kernel from backing memory with huge pages: what is freed would come back in pieces of 2 MB only, which
/// doubles the memory of a process that writes small epochs and makes nothing here faster.
pub fn use_small_pages() {
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code, reason = "the standard library has no prctl; this call takes integers only")]
    // SAFETY: PR_SET_THP_DISABLE reads no memory. Where it is not known it fails, and nothing is lost.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}
