//go:build linux || darwin

package tables

import (
	"os"
	"path/filepath"
	"syscall"
)

// writable reports whether this process may write to dir and to the catalog in it. Paths that do not exist count as
// writable.
func writable(dir string) bool {
	const write = 2 // W_OK
	for _, path := range []string{dir, filepath.Join(dir, catalogFile)} {
		if _, err := os.Stat(path); err == nil && syscall.Access(path, write) != nil {
			return false
		}
	}
	return true
}
