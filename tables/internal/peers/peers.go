// Package peers finds the Python programs that tests and benchmarks work with,
// each in a virtual environment of its own, as .ci/peers makes them.
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
func Path(peer string) (string, error) {
	dir := os.Getenv("PARTD_PEERS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "partd-peers")
	}
	python := filepath.Join(dir, peer, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		return "", fmt.Errorf("%w: .ci/peers makes it", err)
	}
	return python, nil
}

// Python is Path for a test, which is skipped without, or fails where all is
// required.
func Python(t T, peer string) string {
	t.Helper()
	python, err := Path(peer)
	switch {
	case err == nil:
	case os.Getenv("PARTD_REQUIRE_ALL") == "1":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
	return python
}
