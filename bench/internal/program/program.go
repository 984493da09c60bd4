// Package program has what several of the benchmark programs need.
package program

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/internal/testutil/figures"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/stores"
)

// End ends the program with 1 where there is an error, which it tells.
func End(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// Self is this program with other arguments, in a process of its own.
func Self(args ...string) *exec.Cmd {
	self, err := os.Executable()
	cmd := exec.Command(self, args...)
	cmd.Err = cmp.Or(err, cmd.Err)
	cmd.Stderr = os.Stderr
	return cmd
}

// Debian is the Python of Debian, which has python3-partd.
const Debian = "/usr/bin/python3"

// ErrNoPython is returned where there is no Python to compare with.
var ErrNoPython = errors.New("not all of Debian's packages are installed")

// Python is Debian's Python with arguments, if it has all of some modules.
func Python(modules string, args ...string) (*exec.Cmd, error) {
	if exec.Command(Debian, "-c", "import "+modules).Run() != nil {
		return nil, fmt.Errorf("%w: %s is to import %s", ErrNoPython, Debian, modules)
	}
	cmd := exec.Command(Debian, args...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// Median is 0 of nothing.
func Median(x []float64) float64 { return figures.Median(x) }

// CPU is the time that processors worked for this process, for Go's collector, too. It
// tells less than the clock of what others do at the same time.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Peak is the most memory that a process had, in bytes, or 0 where the system does not
// tell, or it is gone. Getrusage would count what its parent had, too.
func Peak(pid int) int64 {
	_, most, _ := serverproc.Memory(pid)
	return most
}

// Size is a number of bytes as a flag.
type Size int64

func (s *Size) String() string { return sizeflag.Format(int64(*s)) }

// Set reads a size such as 600MB or 1GiB.
func (s *Size) Set(text string) error {
	n, err := stores.ParseSize(text)
	*s = Size(n)
	return err
}
