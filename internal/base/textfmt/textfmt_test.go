package textfmt

import (
	"os"
	"os/exec"
	"testing"
)

func TestShellQuote(t *testing.T) {
	sh, err := exec.LookPath("bash")
	if err != nil {
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			t.Fatal("PARTD_REQUIRE_ALL is set, but this test needs bash")
		}
		t.Skip("this test needs bash")
	}
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
