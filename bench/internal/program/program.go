// Package program contains helpers for the benchmark programs.
package program

import (
	"bufio"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/stores"
)

// ExitOnError prints err and exits with code 1, unless err is nil.
func ExitOnError(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// ParseFlags parses the flags and exits with code 2 if other arguments follow. It first changes back to the
// user's directory (PWD), to which paths are relative. "go run -C bench" changes the working directory but not PWD.
func ParseFlags() {
	if dir := os.Getenv("PWD"); dir != "" {
		ExitOnError(os.Chdir(dir))
	}
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "%s: unexpected argument %q\n", filepath.Base(os.Args[0]), flag.Arg(0))
		os.Exit(2)
	}
}

// Compare is the main function of a program that prints a table and does each run in a separate
// process. It calls runOne if the flag --run names a run, and otherwise compare.
func Compare(runOne func(run string) error, compare func(rounds int, only string) error) {
	rounds := flag.Int("rounds", 5, "runs of each test; the median is reported")
	only := flag.String("only", "", "run only rows whose name contains this text")
	run := flag.String("run", "", "do only this run and print its figures (used internally)")
	ParseFlags()
	switch {
	case *rounds < 1:
		ExitOnError(fmt.Errorf("--rounds %d: must be at least 1", *rounds))
	case *run != "":
		ExitOnError(runOne(*run))
	default:
		ExitOnError(compare(*rounds, *only))
	}
}

// InTurns takes each measurement once per round and returns the results grouped by measurement. Each round
// starts with a different measurement. A measurement that returns ErrNoPython has no results.
func InTurns[T any](rounds int, measurements ...func() (T, error)) ([][]T, error) {
	results := make([][]T, len(measurements))
	for round := range rounds {
		for n := range measurements {
			i := (n + round) % len(measurements)
			r, err := measurements[i]()
			if errors.Is(err, ErrNoPython) {
				continue
			} else if err != nil {
				return nil, err
			}
			results[i] = append(results[i], r)
		}
	}
	return results, nil
}

// Scan runs a command and parses the blank-separated values that it prints.
func Scan(cmd *exec.Cmd, values ...any) error {
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", cmd.Path, err)
	}
	if _, err := fmt.Sscan(string(out), values...); err != nil {
		return fmt.Errorf("%s printed %q instead of %d values: %w", cmd.Path, out, len(values), err)
	}
	return nil
}

// Self returns a command that runs this program with other arguments.
func Self(args ...string) *exec.Cmd {
	self, err := os.Executable()
	cmd := exec.Command(self, args...)
	cmd.Err = cmp.Or(err, cmd.Err)
	cmd.Stderr = os.Stderr
	return cmd
}

// PeerPython returns the path of the Python that .ci/peers installs for a peer, for use as a flag's default. The file may
// not exist.
func PeerPython(peer string) string {
	path, _ := procs.PythonPath(peer)
	return path
}

// DebianPython is the path of Debian's Python, which can import the modules of Debian's package
// python3-partd.
const DebianPython = "/usr/bin/python3"

// ErrNoPython is returned if Debian's Python or a required module is missing.
var ErrNoPython = errors.New("no usable Python")

// Python returns a command that runs Debian's Python with arguments. It returns ErrNoPython
// unless all modules, separated by commas, can be imported.
func Python(modules string, args ...string) (*exec.Cmd, error) {
	if exec.Command(DebianPython, "-c", "import "+modules).Run() != nil {
		return nil, fmt.Errorf("%w: %s must be able to import %s", ErrNoPython, DebianPython, modules)
	}
	cmd := exec.Command(DebianPython, args...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// Median returns the median of x, or 0 if x is empty.
func Median(x []float64) float64 { return benchdata.Median(x) }

// MedianOf returns the median of value for all results.
func MedianOf[T any](results []T, value func(T) float64) float64 {
	var x []float64
	for _, r := range results {
		x = append(x, value(r))
	}
	return Median(x)
}

// CPU returns the CPU time of this process, which includes Go's garbage collector. Benchmarks use
// it because other load on the machine affects it less than wall-clock time.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Peak returns the peak memory of a process in bytes, or 0 if the process has ended or the
// system does not report it. Unlike getrusage, it does not include the parent's memory.
func Peak(pid int) int64 {
	_, peak, _ := procs.Memory(pid)
	return peak
}

// BytesWritten returns the bytes that this process has written to disks, or 0 if /proc does not
// report them. It does not count data that was removed before it reached the disk.
func BytesWritten() int64 {
	f, err := os.Open("/proc/self/io")
	if err != nil {
		return 0
	}
	defer f.Close()
	var written int64
	for s := bufio.NewScanner(f); s.Scan(); {
		name, number, _ := strings.Cut(s.Text(), ": ")
		n, _ := strconv.ParseInt(number, 10, 64)
		switch name {
		case "write_bytes":
			written += n
		case "cancelled_write_bytes":
			written -= n
		}
	}
	return written
}

// Size is a flag whose value is a number of bytes.
type Size int64

func (s *Size) String() string { return cliutil.FormatSize(int64(*s)) }

// Set reads a size such as 600MB or 1GiB.
func (s *Size) Set(text string) error {
	n, err := stores.ParseSize(text)
	*s = Size(n)
	return err
}
