// Package peers finds the Python, Node and Java programs that tests and benchmarks work
// with, each in an environment of its own, as .ci/peers makes them.
package peers

import (
	"fmt"
	"os"
	"path/filepath"
)

// T is what is used of a testing.TB.
type T interface {
	Helper()
	Skip(...any)
	Fatal(...any)
}

// Path returns the Python of a peer.
func Path(peer string) (string, error) { return find(peer, "bin", "python") }

func find(peer string, path ...string) (string, error) {
	dir := os.Getenv("PARTD_PEERS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "partd-peers")
	}
	found := filepath.Join(append([]string{dir, peer}, path...)...)
	if _, err := os.Stat(found); err != nil {
		return "", fmt.Errorf("%w: .ci/peers makes it", err)
	}
	return found, nil
}

// Python is Path for a test, which is skipped without, or fails where all is
// required.
func Python(t T, peer string) string {
	t.Helper()
	python, err := Path(peer)
	return required(t, python, err)
}

// Node returns the directory with the packages of a peer, as NODE_PATH has it, as
// Python does.
func Node(t T, peer string) string {
	t.Helper()
	modules, err := find(peer, "node_modules")
	return required(t, modules, err)
}

// Jar returns the file with the Java classes of a peer, as Python does.
func Jar(t T, peer string) string {
	t.Helper()
	jar, err := find(peer, peer+".jar")
	return required(t, jar, err)
}

func required(t T, path string, err error) string {
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
