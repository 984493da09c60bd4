// Package peers finds the peers: Python, Node and Java programs that tests and benchmarks use. .ci/peers
// installs each of them in a separate environment.
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

// Python returns the path of a peer's Python interpreter. If it is missing, the test is skipped, or fails if
// PARTD_REQUIRE_ALL is 1.
func Python(t T, peer string) string {
	t.Helper()
	python, err := PythonPath(peer)
	return requirePath(t, python, err)
}

// NodeModules returns the directory of a peer's Node packages, for NODE_PATH. If it is missing, the test is
// skipped or fails, as described for [Python].
func NodeModules(t T, peer string) string {
	t.Helper()
	modules, err := find(peer, "node_modules")
	return requirePath(t, modules, err)
}

// Jar returns the path of a peer's JAR file. If it is missing, the test is skipped or fails, as described for
// [Python].
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
