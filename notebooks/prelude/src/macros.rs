//! Printing in cells.
//!
//! They are what the language's macros of the same names are. Beyond that, text without a line break reaches the notebook at once, and two
//! calls that evcxr writes around a cell, when a `?` or a panic ends it, tell the kernel so.

/// Prints text.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::cell::print(&::std::format!($($text)*)) };
}

/// Prints text and a line break.
#[macro_export]
macro_rules! println {
    ("{}", evcxr_internal_runtime::USER_ERROR_OCCURRED) => {{
        $crate::cell::failed();
        ::std::println!("{}", evcxr_internal_runtime::USER_ERROR_OCCURRED)
    }};
    ("EVCXR_PANIC_NOTIFICATION") => {{
        $crate::cell::panicked();
        ::std::println!("EVCXR_PANIC_NOTIFICATION")
    }};
    ($($text:tt)*) => { ::std::println!($($text)*) };
}

/// Prints text as a complaint.
#[macro_export]
macro_rules! eprint {
    ($($text:tt)*) => { $crate::cell::complain(&::std::format!($($text)*)) };
}

/// Prints text as a complaint, and a line break.
#[macro_export]
macro_rules! eprintln {
    // So evcxr prints the error of a `?`.
    ("{}", $error:ident) => { $crate::cell::hold(&$error) };
    () => { $crate::cell::complain("\n") };
    ($($text:tt)*) => { $crate::cell::complain(&(::std::format!($($text)*) + "\n")) };
}
