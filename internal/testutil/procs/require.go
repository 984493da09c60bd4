package procs

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Number returns the number in an environment variable or, if it is unset, n.
func Number(t testing.TB, variable string, n int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// RequiresAll reports whether PARTD_REQUIRE_ALL is set, so that no test may be skipped.
func RequiresAll() bool { return os.Getenv("PARTD_REQUIRE_ALL") != "" }

// Skip skips a test because the machine lacks something, or fails it if PARTD_REQUIRE_ALL is set.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if RequiresAll() {
		t.Fatalf("PARTD_REQUIRE_ALL is set, but "+format, args...)
	}
	t.Skipf(format, args...)
}

// LookPath returns the path of a program that a test needs. It calls Skip if the program is not installed.
func LookPath(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Skip(t, "%s is not installed", program)
	}
	return path
}

// Strace returns a command that runs cmd and its children under strace with flags, which writes the calls to the file
// output. It calls Skip if strace is missing.
func Strace(t testing.TB, cmd *exec.Cmd, output string, flags ...string) *exec.Cmd {
	t.Helper()
	traced := exec.Command(LookPath(t, "strace"), append(append([]string{"-f", "-qq", "-y", "-o", output}, flags...), cmd.Args...)...)
	traced.Env = cmd.Env
	return traced
}

// SkipUntraced calls Skip if the standard error output of a command from Strace says that the
// kernel does not permit tracing.
func SkipUntraced(t testing.TB, stderr string) {
	t.Helper()
	if strings.Contains(stderr, "ptrace") {
		Skip(t, "strace may not trace here: %s", stderr)
	}
}
