package vfstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func mount(t testing.TB, kind, dir string, size int64) error {
	if kind != "ext4" {
		return syscall.Mount(kind, dir, kind, 0, fmt.Sprint("size=", size))
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, size); err != nil {
		return err
	}
	// Reserve no blocks for root, because the test usually runs as root.
	if err := run("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", image); err != nil {
		return err
	}
	return run("mount", "-o", "loop", image, dir)
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// unmount unmounts dir, which releases the loop device that mount(8) has set up.
func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }

func flush(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
