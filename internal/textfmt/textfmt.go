// Package textfmt writes counts for people, and arguments for shells.
package textfmt

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// POSIXQuote returns an argument as every shell reads it: plain where nothing in it
// is special, else in single quotes, with the lines that it has.
func POSIXQuote(arg string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-+=:,./@%", r)
	}
	if arg != "" && strings.TrimFunc(arg, plain) == "" && arg[0] != '=' {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// ShellQuote is POSIXQuote, on one line: an argument that holds control characters or
// is not UTF-8 is in $'…', which bash, zsh and ksh know.
func ShellQuote(arg string) string {
	if utf8.ValidString(arg) && !strings.ContainsFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return POSIXQuote(arg)
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(arg) {
		switch c := arg[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteString("'")
	return b.String()
}

// Plural returns a number and what it is of.
func Plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return humanize.Comma(n) + " " + what + "s"
}
