package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/go-partd/partd/bench/internal/program"
)

// peerNames lists the stores whose jobs are Python programs. Python's partd gets a hundredth of the
// entries and keys, because it needs a file for each key.
var peerNames = []string{"duckdb", "python-partd"}

//go:embed duckdb.py
var duckdbProgram string

//go:embed partd.py
var partdProgram string

// runPeer runs the Python program of a peer in the current directory and copies its result to stdout.
func (f *flags) runPeer(entries uint64) error {
	command, module, source, keys := f.duckdb, "duckdb", duckdbProgram, f.keys
	if f.child == "python-partd" {
		command, module, source = program.DebianPython, "partd", partdProgram
		entries, keys = entries/100, max(keys/100, 1)
	}
	if err := exec.Command(command, "-c", "import "+module).Run(); err != nil {
		exitWithoutResult("skipped: %s cannot import %s", command, module)
	}
	cmd := exec.Command(command, "-c", source, fmt.Sprint(entries), fmt.Sprint(keys), f.dists, fmt.Sprint(int64(f.limit)/2))
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		lines := strings.Split(strings.TrimSpace(string(e.Stderr)), "\n")
		exitWithoutResult("failed: %v: %.100s", err, lines[len(lines)-1])
	}
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(out)
	return err
}

// exitWithoutResult prints why the job has no result and ends the process.
func exitWithoutResult(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	os.Exit(exitSkipped)
}
