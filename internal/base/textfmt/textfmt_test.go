package textfmt

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestShellQuote(t *testing.T) {
	sh := procs.LookPath(t, "bash")
	for _, arg := range []string{
		"", "plain", "a b", "it's", `back\slash`, "new\nline", "tab\t'", "\xff\xfe", "é", "$HOME", "`x`", "a*", "~", "=x", "#", "!x",
		"file:a?memory=1&b", "\x7f", "-x", "\\\n'", "1\x012",
	} {
		out, err := exec.Command(sh, "-c", "printf '%s.' "+ShellQuote(arg)).Output()
		if err != nil || string(out) != arg+"." {
			t.Errorf("ShellQuote(%q) = %s, which bash reads as %q (%v)", arg, ShellQuote(arg), out, err)
		}
	}
	// Only what needs it is quoted.
	for arg, want := range map[string]string{
		"azAZ09_-+=:,./@%": "azAZ09_-+=:,./@%", "=x": "'=x'", "": "''", "a b~": "'a b~'", "é": "'é'", "\x1f": `$'\037'`, "\x7f'": `$'\177\''`,
		"\xff~": `$'\377~'`,
	} {
		if got := ShellQuote(arg); got != want {
			t.Errorf("ShellQuote(%q) = %s, want %s", arg, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{strings.Repeat("user", 20) + "s", "user", "amount", "Origin State", "group", "größe", "id"}
	for word, want := range map[string]string{
		"usr": "user", "USER": "user", "amuont": "amount", "origin_state": "Origin State", "gruop": "group", "grosse": "",
		"größen": "größe", "xyz": "", "": "", "x": "", "ID": "id", "users": "user", "groub by": "",
		strings.Repeat("user", 20): "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	// Abbreviations have at least three letters of a name, in order, and begin with its first. The shortest name wins.
	names = []string{"", strings.Repeat("x", 256), "counters", "count_all", "Containers"}
	for word, want := range map[string]string{
		"cnt": "counters", "CNT": "counters", "cn": "", "ont": "", "ctn": "Containers", "cnts": "counters", "cntz": "", "al": "",
		strings.Repeat("x", 64): strings.Repeat("x", 256), strings.Repeat("x", 65): "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	names = []string{"user"}
	if got := Hint("usr", names); got != ` (did you mean "user"?)` {
		t.Errorf("Hint = %q, want the name user", got)
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int64]string{0: "0 rows", 1: "1 row", 2: "2 rows", 1234567: "1,234,567 rows"} {
		if got := Plural(n, "row"); got != want {
			t.Errorf("Plural(%d) = %q, want %q", n, got, want)
		}
	}
}
