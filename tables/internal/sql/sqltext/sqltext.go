// Package sqltext quotes names and texts for SQL, and defines the error of an SQL statement. The worker processes that
// run statements use it too, but do not import package tables.
package sqltext

import "strings"

// Name returns a name in double quotes.
func Name(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// Qualified returns the quoted name, preceded by the quoted outer name unless that is "".
func Qualified(outer, name string) string {
	if outer == "" {
		return Name(name)
	}
	return Name(outer) + "." + Name(name)
}

// Text returns a text in single quotes.
func Text(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
