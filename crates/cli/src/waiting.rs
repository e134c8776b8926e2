//! How llama.cpp's threads wait for each other.
//!
//! Its threads are OpenMP's. By default those spin while they wait, which takes the cores from whoever they wait for as soon as
//! another process is busy on the same cores. OpenMP reads how to wait before `main`, so the only way to change it is to start the
//! program again.

/// OpenMP's settings. One that the user has set wins.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";
const SPIN_COUNT: &str = "GOMP_SPINCOUNT";

/// How often a waiting thread looks before it sleeps: some microseconds.
const SPINS: &str = "1000";

/// Starts this program again with threads that sleep when they wait, unless the environment states how they wait. The process and
/// its open files stay the same. Returns if that is not needed, or not possible.
pub(crate) fn wait_without_spinning() {
    if !cfg!(all(feature = "llama-cpp", target_os = "linux"))
        || [WAIT_POLICY, SPIN_COUNT].iter().any(|name| std::env::var_os(name).is_some())
    {
        return;
    }
    #[cfg(unix)]
    if let Ok(program) = std::env::current_exe() {
        use std::os::unix::process::CommandExt;
        let mut arguments = std::env::args_os();
        let mut again = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        // Returns only if it fails. Then this process goes on, and its threads spin.
        let _ = again.args(arguments).env(SPIN_COUNT, SPINS).exec();
    }
}
