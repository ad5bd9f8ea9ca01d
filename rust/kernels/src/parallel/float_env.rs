//! The floating-point environment of kernels.

/// Gives the code inside the default floating-point environment (round to nearest, no flush to zero: other libraries
/// set it, and results must not depend on that) and restores the caller's afterwards.
pub(super) struct FloatEnv(#[allow(dead_code)] u64);

impl FloatEnv {
    #[cfg(target_arch = "x86_64")]
    pub(super) fn enter() -> Self {
        const MODE: u32 = 0xffc0;
        let mut old = 0u32;
        // SAFETY: stores the control register into a local.
        unsafe {
            core::arch::asm!("stmxcsr [{}]", in(reg) &mut old, options(nostack, preserves_flags))
        };
        if old & MODE != 0x1f80 {
            Self::set(0x1f80);
        }
        FloatEnv(old.into())
    }
    #[cfg(target_arch = "x86_64")]
    pub(super) fn set(x: u32) {
        // SAFETY: a valid control word read from a local; our own code assumes the default one.
        unsafe {
            core::arch::asm!("ldmxcsr [{}]", in(reg) &x, options(nostack, preserves_flags, readonly))
        };
    }
    #[cfg(target_arch = "aarch64")]
    pub(super) fn enter() -> Self {
        let old: u64;
        // SAFETY: reads the control register.
        unsafe {
            core::arch::asm!("mrs {}, fpcr", out(reg) old, options(nomem, nostack, preserves_flags))
        };
        if old != 0 {
            // SAFETY: 0 is the default environment, which Rust code assumes.
            unsafe {
                core::arch::asm!("msr fpcr, {}", in(reg) 0u64, options(nomem, nostack, preserves_flags))
            };
        }
        FloatEnv(old)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(super) fn enter() -> Self {
        FloatEnv(0)
    }
}

impl Drop for FloatEnv {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.0 as u32 & 0xffc0 != 0x1f80 {
            Self::set(self.0 as u32);
        }
        #[cfg(target_arch = "aarch64")]
        if self.0 != 0 {
            // SAFETY: puts back what was there.
            unsafe {
                core::arch::asm!("msr fpcr, {}", in(reg) self.0, options(nomem, nostack, preserves_flags))
            };
        }
    }
}
