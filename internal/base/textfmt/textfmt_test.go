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
	if got := Hint("usr", names); got != ` (did you mean "user"?)` {
		t.Errorf("Hint = %q, want the name user", got)
	}
}
