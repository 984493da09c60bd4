package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// If this variable is set, which images for containers often do, each Python process compiles all modules that it
// imports: more than a second for pandas.
func init() { _ = os.Unsetenv("PYTHONDONTWRITEBYTECODE") }

// PythonPath returns the path of a peer's Python interpreter. If the peer is not installed, it also returns an error.
func PythonPath(peer string) (string, error) { return find(peer, "bin", "python") }

func find(peer string, path ...string) (string, error) {
	dir := os.Getenv("PARTD_PEERS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "partd-peers")
	}
	target := filepath.Join(append([]string{dir, peer}, path...)...)
	if _, err := os.Stat(target); err != nil {
		return target, fmt.Errorf("%w: run .ci/peers to install it", err)
	}
	return target, nil
}

// Python is like PythonPath, but if the interpreter is missing, it skips the test, or fails it if the environment
// variable PARTD_REQUIRE_ALL is 1.
func Python(t testing.TB, peer string) string {
	t.Helper()
	python, err := PythonPath(peer)
	return requirePath(t, python, err)
}

// NodeModules returns the directory of a peer's Node packages, for the variable NODE_PATH. If the directory is missing,
// NodeModules skips or fails the test like [Python].
func NodeModules(t testing.TB, peer string) string {
	t.Helper()
	modules, err := find(peer, "node_modules")
	return requirePath(t, modules, err)
}

// Jar returns the path of a peer's JAR file. If the file is missing, Jar skips or fails the test like [Python].
func Jar(t testing.TB, peer string) string {
	t.Helper()
	jar, err := find(peer, peer+".jar")
	return requirePath(t, jar, err)
}

func requirePath(t testing.TB, path string, err error) string {
	t.Helper()
	if err != nil {
		Skip(t, "%v", err)
	}
	return path
}
