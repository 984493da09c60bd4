// Package textfmt formats counts for people and arguments for shells. It also finds the known name that
// is closest to an unknown one.
package textfmt

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// POSIXQuote quotes an argument for any POSIX shell, in single quotes. An argument without special
// characters is returned unchanged. Line breaks stay as they are.
func POSIXQuote(arg string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-+=:,./@%", r)
	}
	if arg != "" && strings.TrimFunc(arg, plain) == "" && arg[0] != '=' {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// ShellQuote is like POSIXQuote, but its result is a single line: an argument with control
// characters or invalid UTF-8 becomes $'…', which bash, zsh and ksh understand.
func ShellQuote(arg string) string {
	if utf8.ValidString(arg) && !strings.ContainsFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return POSIXQuote(arg)
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(arg) {
		c := arg[i]
		switch {
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

// Plural returns a number and a noun, in the plural unless the number is 1.
func Plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(n) + " " + noun + "s"
}

// secretPattern matches the parts of a URL that may be secret: a user and password before a host, even
// in an option's value or before an escaped @, and the values of options with names such as token.
var secretPattern = regexp.MustCompile(`(?i)((?:tcp|tls)://)[^?]*@` +
	`|(//)[^/?]*(?:@|%40)` +
	`|([?&][^=&]*=(?:[a-z]*://)?)[^&]*(?:@|%40)` +
	`|([?&][a-z0-9._-]*(?:token|password|secret|credential|access[_-]key)=)[^&]*`)

// RedactURL replaces everything that may be secret in a URL, so that messages can show it.
func RedactURL(rawURL string) string {
	return secretPattern.ReplaceAllStringFunc(rawURL, func(match string) string {
		groups := secretPattern.FindStringSubmatch(match)
		if groups[4] != "" {
			return groups[4] + "…"
		}
		return groups[1] + groups[2] + groups[3] + "…@"
	})
}

// urlPattern matches each URL in a text.
var urlPattern = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*:[^\s"]*`)

// RedactURLs applies [RedactURL] to each URL in a message.
func RedactURLs(message string) string { return urlPattern.ReplaceAllStringFunc(message, RedactURL) }
