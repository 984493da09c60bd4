//go:build unix

package cli

import (
	"os"
	"syscall"
)

// replaceProcess runs a program in place of this process, so that the program gets the signals. It returns only an error.
func replaceProcess(path string, args []string) error { return syscall.Exec(path, args, os.Environ()) }
