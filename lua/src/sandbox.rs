//! What scripts and expressions may use besides the message: one list, for the
//! environment (sandbox.lua) and for the analysis of expressions.

/// Functions.
pub(crate) const BASE: &[&str] = &[
    "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring",
    "type", "unpack",
];

/// Functions of our own.
const OWN: &[&str] = &["setmetatable", "getmetatable", "xpcall", "list"];

/// Libraries and what they have.
pub(crate) const LIBRARIES: &[(&str, &[&str])] = &[
    (
        "string",
        &[
            "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep",
            "reverse", "sub", "upper",
        ],
    ),
    ("table", &["concat", "insert", "maxn", "remove", "sort"]),
    (
        "math",
        &[
            "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor",
            "fmod", "frexp", "huge", "ldexp", "log", "log10", "max", "min", "modf", "pi", "pow",
            "rad", "random", "sin", "sinh", "sqrt", "tan", "tanh",
        ],
    ),
    (
        "bit",
        &[
            "arshift", "band", "bnot", "bor", "bswap", "bxor", "lshift", "rol", "ror", "rshift",
            "tobit", "tohex",
        ],
    ),
    ("utf8", &["char", "charpattern", "codepoint", "codes", "len", "offset"]),
    ("os", &["time", "clock", "date", "difftime"]),
];

/// Longest result of `string.rep`, in bytes: a C function cannot be stopped.
pub(crate) const REP_BYTES_MAX: usize = 1 << 20;

/// Whether a free name of an expression, used in this way, is one of these.
pub(crate) fn has(name: &str, called: bool, indexed: Option<&str>) -> bool {
    if name == "null" {
        return true;
    }
    if called && (BASE.contains(&name) || OWN.contains(&name)) {
        return true;
    }
    let library = LIBRARIES.iter().find(|(library, _)| *library == name);
    library.zip(indexed).is_some_and(|((_, members), member)| members.contains(&member))
}
