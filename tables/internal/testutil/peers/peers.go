// Package peers finds the other programs that tests and benchmarks use, called peers. They are written in Python,
// JavaScript and Java. The script .ci/peers installs each peer in a separate directory.
package peers

import (
	"fmt"
	"os"
	"path/filepath"
)

// T is the part of testing.TB that this package uses.
type T interface {
	Helper()
	Skip(...any)
	Fatal(...any)
}

// PythonPath returns the path of a peer's Python interpreter.
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
		return "", fmt.Errorf("%w: run .ci/peers to install it", err)
	}
	return target, nil
}

// Python is like PythonPath, but if the interpreter is missing, it skips the test, or fails it if the environment
// variable PARTD_REQUIRE_ALL is 1.
func Python(t T, peer string) string {
	t.Helper()
	python, err := PythonPath(peer)
	return requirePath(t, python, err)
}

// NodeModules returns the directory of a peer's Node packages, for the variable NODE_PATH. If the directory is missing,
// NodeModules skips or fails the test like [Python].
func NodeModules(t T, peer string) string {
	t.Helper()
	modules, err := find(peer, "node_modules")
	return requirePath(t, modules, err)
}

// Jar returns the path of a peer's JAR file. If the file is missing, Jar skips or fails the test like [Python].
func Jar(t T, peer string) string {
	t.Helper()
	jar, err := find(peer, peer+".jar")
	return requirePath(t, jar, err)
}

func requirePath(t T, path string, err error) string {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("PARTD_REQUIRE_ALL") == "1":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
	return path
}
