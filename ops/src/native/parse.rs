//! The expression subset: precedence and associativity of Lua, names are
//! fields.

use super::lex::{Token, tokens};

/// An expression over slots. `F` is the field: its name as parsed, its slot
/// once it is bound to a schema.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr<F> {
    Nil,
    Bool(bool),
    Number(f64),
    Text(Vec<u8>),
    Field(F),
    Not(Box<Self>),
    Minus(Box<Self>),
    Math(Math, Box<Self>, Box<Self>),
    Compare(Compare, Box<Self>, Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Concat(Box<Self>, Box<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Math {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

/// `a > b` is `b < a`, as in Lua.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// LuaJIT allows 200 levels and counts some of them differently; what nests
/// deeper is left to it.
const LEVELS_MAX: usize = 100;

/// A chain like `a + b + c` is a tree as deep as it is long, and trees are
/// walked recursively.
const TOKENS_MAX: usize = 1000;

/// Words of LuaJIT that are no names, and `null`, which is a value of `lua/`.
/// Every other name is a field where nothing is called or indexed.
const NOT_FIELDS: [&str; 19] = [
    "break", "const", "continue", "do", "else", "elseif", "end", "for", "function", "goto", "if",
    "in", "local", "null", "repeat", "return", "then", "until", "while",
];

/// `lua/` keeps names with two underscores for itself.
fn is_field(name: &str) -> bool {
    !NOT_FIELDS.contains(&name) && !name.starts_with("__")
}

/// The expression, or nothing when it is not of the subset.
pub(crate) fn parse(source: &str) -> Option<Expr<String>> {
    let tokens = tokens(source).filter(|tokens| tokens.len() <= TOKENS_MAX)?;
    let mut parser = Parser { tokens: &tokens, levels: 0 };
    let expr = parser.binary(0)?;
    parser.tokens.is_empty().then_some(expr)
}

struct Parser<'t> {
    tokens: &'t [Token],
    levels: usize,
}

/// Left and right binding power.
fn power(sign: &str) -> Option<(u8, u8)> {
    Some(match sign {
        "or" => (1, 1),
        "and" => (2, 2),
        "==" | "~=" | "<" | "<=" | ">" | ">=" => (3, 3),
        ".." => (9, 8),
        "+" | "-" => (10, 10),
        "*" | "/" | "%" => (11, 11),
        "^" => (14, 13),
        _ => return None,
    })
}

const UNARY: u8 = 12;

impl<'t> Parser<'t> {
    fn next(&mut self) -> Option<&'t Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn binary(&mut self, limit: u8) -> Option<Expr<String>> {
        self.levels += 1;
        if self.levels > LEVELS_MAX {
            return None;
        }
        let mut left = self.unary()?;
        while let Some(Token::Sign(sign)) = self.tokens.first() {
            let Some((_, right_power)) = power(sign).filter(|(left, _)| *left > limit) else {
                break;
            };
            self.next();
            let right = self.binary(right_power)?;
            left = join(sign, left, right)?;
        }
        self.levels -= 1;
        Some(left)
    }

    fn unary(&mut self) -> Option<Expr<String>> {
        Some(match self.next()? {
            Token::Number(value) => Expr::Number(*value),
            Token::Text(text) => Expr::Text(text.clone()),
            Token::Name(name) => Expr::Field(is_field(name).then(|| name.clone())?),
            Token::Sign(sign) => match *sign {
                "nil" => Expr::Nil,
                "true" => Expr::Bool(true),
                "false" => Expr::Bool(false),
                "not" => Expr::Not(Box::new(self.binary(UNARY)?)),
                "-" => Expr::Minus(Box::new(self.binary(UNARY)?)),
                "(" => {
                    let inner = self.binary(0)?;
                    (self.next()? == &Token::Sign(")")).then_some(inner)?
                }
                _ => return None,
            },
        })
    }
}

fn join(sign: &str, left: Expr<String>, right: Expr<String>) -> Option<Expr<String>> {
    let (left, right) = (Box::new(left), Box::new(right));
    Some(match sign {
        "or" => Expr::Or(left, right),
        "and" => Expr::And(left, right),
        ".." => Expr::Concat(left, right),
        _ => match math(sign) {
            Some(op) => Expr::Math(op, left, right),
            None => Expr::Compare(compare(sign)?, left, right),
        },
    })
}

fn math(sign: &str) -> Option<Math> {
    Some(match sign {
        "+" => Math::Add,
        "-" => Math::Sub,
        "*" => Math::Mul,
        "/" => Math::Div,
        "%" => Math::Mod,
        "^" => Math::Pow,
        _ => return None,
    })
}

fn compare(sign: &str) -> Option<Compare> {
    Some(match sign {
        "==" => Compare::Eq,
        "~=" => Compare::Ne,
        "<" => Compare::Lt,
        "<=" => Compare::Le,
        ">" => Compare::Gt,
        ">=" => Compare::Ge,
        _ => return None,
    })
}

impl<F> Expr<F> {
    /// The same expression over other fields; nothing when one has none.
    pub(crate) fn bind<G>(&self, bind: &mut impl FnMut(&F) -> Option<G>) -> Option<Expr<G>> {
        let mut two = |left: &Self, right: &Self| {
            Some((Box::new(left.bind(bind)?), Box::new(right.bind(bind)?)))
        };
        Some(match self {
            Self::Nil => Expr::Nil,
            Self::Bool(value) => Expr::Bool(*value),
            Self::Number(value) => Expr::Number(*value),
            Self::Text(text) => Expr::Text(text.clone()),
            Self::Field(field) => Expr::Field(bind(field)?),
            Self::Not(inner) => Expr::Not(Box::new(inner.bind(bind)?)),
            Self::Minus(inner) => Expr::Minus(Box::new(inner.bind(bind)?)),
            Self::Math(op, left, right) => {
                let (left, right) = two(left, right)?;
                Expr::Math(*op, left, right)
            }
            Self::Compare(op, left, right) => {
                let (left, right) = two(left, right)?;
                Expr::Compare(*op, left, right)
            }
            Self::And(left, right) => {
                let (left, right) = two(left, right)?;
                Expr::And(left, right)
            }
            Self::Or(left, right) => {
                let (left, right) = two(left, right)?;
                Expr::Or(left, right)
            }
            Self::Concat(left, right) => {
                let (left, right) = two(left, right)?;
                Expr::Concat(left, right)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fully parenthesised, for comparison.
    fn show(expr: &Expr<String>) -> String {
        let two = |sign: &str, left, right| format!("({} {sign} {})", show(left), show(right));
        match expr {
            Expr::Nil => "nil".into(),
            Expr::Bool(value) => value.to_string(),
            Expr::Number(value) => value.to_string(),
            Expr::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
            Expr::Field(name) => name.clone(),
            Expr::Not(inner) => format!("(not {})", show(inner)),
            Expr::Minus(inner) => format!("(-{})", show(inner)),
            Expr::Math(op, left, right) => two(&format!("{op:?}"), left, right),
            Expr::Compare(op, left, right) => two(&format!("{op:?}"), left, right),
            Expr::And(left, right) => two("and", left, right),
            Expr::Or(left, right) => two("or", left, right),
            Expr::Concat(left, right) => two("..", left, right),
        }
    }

    #[test]
    fn operators_bind_as_in_lua() {
        let cases = [
            ("rpm > 100 and status ~= 'off'", r#"((rpm Gt 100) and (status Ne "off"))"#),
            ("a or b and c", "(a or (b and c))"),
            ("not a == b", "((not a) Eq b)"),
            ("-x ^ 2", "(-(x Pow 2))"),
            ("2 ^ -3", "(2 Pow (-3))"),
            ("2 ^ 3 ^ 2", "(2 Pow (3 Pow 2))"),
            ("a - b - c", "((a Sub b) Sub c)"),
            ("a .. b .. c + 1", "(a .. (b .. (c Add 1)))"),
            ("a < b == c", "((a Lt b) Eq c)"),
            ("a + b * c % d", "(a Add ((b Mul c) Mod d))"),
            ("temp * 1.8 + 32", "((temp Mul 1.8) Add 32)"),
            ("- - a", "(-(-a))"),
            ("not not a", "(not (not a))"),
            ("(a or b) and 0x10", "((a or b) and 16)"),
            ("-1", "(-1)"),
            ("type == key", "(type Eq key)"),
        ];
        for (source, shape) in cases {
            assert_eq!(parse(source).as_ref().map(show).as_deref(), Some(shape), "{source}");
        }
    }

    #[test]
    fn everything_else_is_left_to_lua() {
        let foreign = [
            "",
            "a b",
            "a +",
            "(a",
            "a)",
            "f(a)",
            "a.b",
            "a[1]",
            "string.len(a)",
            "math.pi",
            "type(a)",
            "return a",
            "a; b",
            "a = 1",
            "function() end",
            "goto",
            "null == a",
            "__a",
            "a 'x'",
            "a, b",
            "()",
        ];
        for source in foreign {
            assert_eq!(parse(source), None, "{source}");
        }
        assert!(parse(&format!("{}a{}", "(".repeat(150), ")".repeat(150))).is_none());
        assert!(parse(&format!("a{}", " + a".repeat(5000))).is_none());
    }
}
